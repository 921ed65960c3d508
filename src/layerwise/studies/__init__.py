"""Studies: lists of runs, and what is read from them."""
