"""What a gain study shows and says."""
