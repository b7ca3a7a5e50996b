"""Layers that return distributions, and the networks between them."""
