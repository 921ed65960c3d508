"""What a study of baselines shows and says."""
