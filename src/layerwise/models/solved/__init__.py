"""Classifiers on features that are solved and not trained: convex, or in closed form."""
