"""From data to a running server, step by step; no step is done twice."""
