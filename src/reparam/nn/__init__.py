"""Layers that return distributions, and the networks between them."""

from reparam.nn.bayesian import Bayesian, bayesianize

__all__ = ["Bayesian", "bayesianize"]
