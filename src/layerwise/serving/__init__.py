"""Bundles: export, load, predict without torch."""
