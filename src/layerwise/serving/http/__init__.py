"""The HTTP server of a bundle. Only `app`, `server`, `uploads` and `metrics` need the extra."""
