"""Every picture decoded once, by several processes, into rows on disk."""
