"""Metrics, intervals, thresholds and explanations."""
