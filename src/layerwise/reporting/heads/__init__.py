"""What a heads study shows and says."""
