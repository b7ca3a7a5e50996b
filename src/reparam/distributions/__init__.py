"""Distributions that torch lacks: `torch.distributions.Distribution` subclasses, each with its path."""
