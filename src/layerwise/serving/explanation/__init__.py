"""Grad-CAM as a graph that a bundle carries: gradients of its network without torch."""
