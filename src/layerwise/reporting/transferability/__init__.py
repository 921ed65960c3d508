"""What a transferability study shows and says."""
