"""The Lomax law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL
from reparam.paths.path import Path, noise_like, path
from reparam.special import normal_range

__all__ = ["Lomax"]


class Lomax(Univariate):
    """A power tail that begins at zero: a Pareto law moved there.

    Formula: `P(X > x) = (1 + x / scale)**-concentration`.

    Args:
        scale: positive.
        concentration: positive; moments of this order and above are infinite.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Johnson, Kotz and Balakrishnan (1994), Continuous Univariate Distributions 1, chapter 20.

    Example:
        >>> import torch
        >>> q = Lomax(torch.ones(3), torch.tensor([1.0, 2.0, 4.0]))
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 3]), tensor([   inf, 1.0000, 0.3333]))
    """

    arg_constraints = {"scale": constraints.positive, "concentration": constraints.positive}
    support = constraints.nonnegative
    scale: Tensor
    concentration: Tensor

    def __init__(self, scale: Tensor | float, concentration: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, scale=scale, concentration=concentration)

    def _log_density(self, x: Tensor) -> Tensor:
        c = self.concentration
        return c.log() - self.scale.log() - (c + 1) * torch.log1p(x / self.scale)

    @property
    def mean(self) -> Tensor:
        exists = self.concentration > 1
        return torch.where(exists, self.scale / (torch.where(exists, self.concentration, 2.0) - 1), torch.inf)

    @property
    def mode(self) -> Tensor:
        return torch.zeros_like(self.scale)

    @property
    def variance(self) -> Tensor:
        exists = self.concentration > 2
        c = torch.where(exists, self.concentration, 3.0)
        return torch.where(exists, (self.scale / (c - 1)).square() * c / (c - 2), torch.inf)

    def entropy(self) -> Tensor:
        return self.scale.log() - self.concentration.log() + 1 + 1 / self.concentration


@path.register
def lomax_path(d: Lomax) -> Path:
    """`x = scale * (exp(eps / concentration) - 1)`."""
    scale, concentration = d.scale, d.concentration
    most = math.log(torch.finfo(scale.dtype).max) - 5  # beyond it the exponential is not a float

    def push(eps: Tensor) -> Tensor:
        return normal_range(scale * torch.expm1((eps / concentration).clamp(max=most)))

    return Path(noise_like(scale, EXPONENTIAL), push, lambda x: concentration * torch.log1p(x / scale))
