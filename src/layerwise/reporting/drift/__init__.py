"""The page of `layerwise drift`."""
