"""One file a source of data: what a user has, read into a manifest."""
