"""What an ensemble study shows and says."""
