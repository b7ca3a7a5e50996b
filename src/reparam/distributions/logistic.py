"""The logistic law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL, reflect_exponential
from reparam.paths.path import Path, noise_like, path

__all__ = ["Logistic"]


class Logistic(Univariate):
    """The logistic law: a normal-like law with exponential tails.

    Formula: `F(x) = sigmoid((x - loc) / scale)`.

    Args:
        loc: mean, median and mode.
        scale: positive; the standard deviation is `scale * pi / sqrt(3)`.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Johnson, Kotz and Balakrishnan (1995), Continuous Univariate Distributions 2, chapter 23.

    Example:
        >>> import torch
        >>> q = Logistic(torch.zeros(3), 2.0)
        >>> q.rsample((5,)).shape, q.entropy()
        (torch.Size([5, 3]), tensor([2.6931, 2.6931, 2.6931]))
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, loc=loc, scale=scale)

    def _log_density(self, x: Tensor) -> Tensor:
        z = (x - self.loc) / self.scale
        return logsigmoid(z) + logsigmoid(-z) - self.scale.log()

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (self.scale * (math.pi / math.sqrt(3))).square()

    def entropy(self) -> Tensor:
        return self.scale.log() + 2


@path.register
def logistic_path(d: Logistic) -> Path:
    """`x = loc + scale * (eps + log(1 - exp(-eps)))`."""
    loc, scale = d.loc, d.scale

    def push(eps: Tensor) -> Tensor:
        return torch.addcmul(loc, scale, eps - reflect_exponential(eps))

    return Path(noise_like(loc, EXPONENTIAL), push, lambda x: -logsigmoid((loc - x) / scale))
