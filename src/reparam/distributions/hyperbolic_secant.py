"""The hyperbolic secant law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL
from reparam.paths.path import Path, noise_like, path
from reparam.special.tails import LOG2, hazard, smaller_tail

__all__ = ["HyperbolicSecant"]


class HyperbolicSecant(Univariate):
    """A symmetric law with exponential tails, between the normal and Laplace's.

    Formula: `p(x) = 1 / (scale * pi * cosh(z))`, `z = (x - loc) / scale`.

    Args:
        loc: mean, median and mode.
        scale: positive; the standard deviation is `scale * pi / 2`.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Johnson, Kotz and Balakrishnan (1995), Continuous Univariate Distributions 2, chapter 23.

    Example:
        >>> import torch
        >>> q = HyperbolicSecant(torch.zeros(3), 2.0)
        >>> q.rsample((5,)).shape, q.stddev
        (torch.Size([5, 3]), tensor([3.1416, 3.1416, 3.1416]))
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, loc=loc, scale=scale)

    def _log_density(self, x: Tensor) -> Tensor:
        z = (x - self.loc) / self.scale
        log_cosh = -(logsigmoid(2 * z) + logsigmoid(-2 * z)) / 2 - LOG2
        return -log_cosh - self.scale.log() - math.log(math.pi)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (self.scale * (math.pi / 2)).square()

    def entropy(self) -> Tensor:
        return self.scale.log() + math.log(2 * math.pi)


@path.register
def hyperbolic_secant_path(d: HyperbolicSecant) -> Path:
    """`x = loc ± scale * log(tan(pi/2 * tail))`."""
    loc, scale = d.loc, d.scale

    def push(eps: Tensor) -> Tensor:
        upper, tail = smaller_tail(eps)
        z = torch.log(torch.tan(math.pi / 2 * tail))
        return torch.addcmul(loc, scale, torch.where(upper, -z, z))

    def pull(x: Tensor) -> Tensor:
        z = (x - loc) / scale
        upper = z > 0
        return hazard(upper, torch.atan(torch.exp(torch.where(upper, -z, z))) * (2 / math.pi))

    return Path(noise_like(loc, EXPONENTIAL), push, pull)
