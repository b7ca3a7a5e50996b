"""The Moyal law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl
from torch.distributions.utils import euler_constant

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL
from reparam.paths.path import Path, noise_like, path
from reparam.special.tails import LOG2, smaller_tail

__all__ = ["Moyal"]

HALF_LOG_TWO_PI = math.log(2 * math.pi) / 2


class Moyal(Univariate):
    """The energy loss of a fast particle: minus the logarithm of a squared normal variable.

    Formula: `p(x) = exp(-(z + exp(-z)) / 2) / (scale * sqrt(2 pi))`, `z = (x - loc) / scale`.

    Args:
        loc: the mode.
        scale: positive.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Moyal (1955), "Theory of ionization fluctuations".

    Example:
        >>> import torch
        >>> q = Moyal(torch.zeros(3), 1.0)
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 3]), tensor([1.2704, 1.2704, 1.2704]))
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, loc=loc, scale=scale)

    def _log_density(self, x: Tensor) -> Tensor:
        z = (x - self.loc) / self.scale
        return -(z + torch.exp(-z)) / 2 - self.scale.log() - HALF_LOG_TWO_PI

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * (euler_constant + LOG2)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (math.pi**2 / 2)

    def entropy(self) -> Tensor:
        return self.scale.log() + ((euler_constant + LOG2 + 1) / 2 + HALF_LOG_TWO_PI)


@path.register
def moyal_path(d: Moyal) -> Path:
    """`x = loc - 2 * scale * log h`, with `P(X > x) = P(|Z| < h)` for normal Z."""
    loc, scale = d.loc, d.scale

    def push(eps: Tensor) -> Tensor:
        upper, tail = smaller_tail(eps)
        h = torch.where(upper, math.sqrt(2) * torch.erfinv(tail), -torch.special.ndtri(tail / 2))
        return torch.addcmul(loc, scale, h.log(), value=-2)

    def pull(x: Tensor) -> Tensor:
        h = torch.exp((loc - x) / scale / 2)
        small = h < 0.6745  # the median of |Z|
        inner = -torch.log(torch.erf(torch.where(small, h, 0.5) / math.sqrt(2)))
        return torch.where(small, inner, -torch.log1p(-torch.erfc(torch.where(small, 1.0, h) / math.sqrt(2))))

    return Path(noise_like(loc, EXPONENTIAL), push, pull)


@register_kl(Moyal, Moyal)  # type: ignore[untyped-decorator]
def _kl(p: Moyal, q: Moyal) -> Tensor:
    # exp(-z) is a squared normal variable, of which a power has a known mean.
    ratio, shift = p.scale / q.scale, (p.loc - q.loc) / q.scale
    power = torch.exp(torch.lgamma(ratio + 0.5) + ratio * LOG2 - shift) / math.sqrt(math.pi)
    return (shift + ratio * (euler_constant + LOG2) + power - euler_constant - LOG2 - 1) / 2 - ratio.log()
