"""A bundle measured on labelled data: its `results.json` and its page."""
