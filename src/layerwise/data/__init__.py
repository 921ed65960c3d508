"""The data: manifests, splits, images."""
