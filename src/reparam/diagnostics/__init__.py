"""What a gradient estimate is worth."""

from reparam.diagnostics.gradient import Moments, gradient_moments

__all__ = ["Moments", "gradient_moments"]
