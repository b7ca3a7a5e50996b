"""The Rayleigh law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl
from torch.distributions.utils import euler_constant

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL
from reparam.paths.path import Path, noise_like, path
from reparam.special import normal_range
from reparam.special.tails import LOG2

__all__ = ["Rayleigh"]


class Rayleigh(Univariate):
    """The length of a normal vector in the plane.

    Formula: `P(X > x) = exp(-(x / scale)**2 / 2)`.

    Args:
        scale: positive; the standard deviation of either coordinate, and the mode.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Johnson, Kotz and Balakrishnan (1994), Continuous Univariate Distributions 1, chapter 18.

    Example:
        >>> import torch
        >>> q = Rayleigh(torch.tensor([1.0, 2.0]))
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 2]), tensor([1.2533, 2.5066]))
    """

    arg_constraints = {"scale": constraints.positive}
    support = constraints.positive
    scale: Tensor

    def __init__(self, scale: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, scale=scale)

    def _log_density(self, x: Tensor) -> Tensor:
        return x.log() - 2 * self.scale.log() - (x / self.scale).square() / 2

    @property
    def mean(self) -> Tensor:
        return self.scale * math.sqrt(math.pi / 2)

    @property
    def mode(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (2 - math.pi / 2)

    def entropy(self) -> Tensor:
        return self.scale.log() + (1 + euler_constant / 2 - LOG2 / 2)


@path.register
def rayleigh_path(d: Rayleigh) -> Path:
    """`x = scale * sqrt(2 eps)`."""
    scale = d.scale
    return Path(
        noise_like(scale, EXPONENTIAL),
        lambda eps: normal_range(scale * torch.sqrt(2 * eps)),
        lambda x: (x / scale).square() / 2,
    )


@register_kl(Rayleigh, Rayleigh)  # type: ignore[untyped-decorator]
def _kl(p: Rayleigh, q: Rayleigh) -> Tensor:
    log_ratio = 2 * (p.scale.log() - q.scale.log())
    return torch.expm1(log_ratio) - log_ratio
