"""What the advisor shows and says."""
