"""The networks: where they come from, where they may be cut."""
