"""The networks: our own, one family a file, and how those of others are made."""
