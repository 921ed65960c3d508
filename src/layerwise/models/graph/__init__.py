"""A network as a graph: traced, cut into parts, measured."""
