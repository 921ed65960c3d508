"""What a depth study shows and says."""
