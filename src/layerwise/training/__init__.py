"""Transfers, recipes, cached activations and the training loop."""
