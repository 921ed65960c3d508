"""The advisor: size and similarity → a strategy, tested (Marcelino 2018, §4)."""
