"""The Gompertz law."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL
from reparam.paths.path import Path, noise_like, path
from reparam.special import normal_range
from reparam.special.averages import exponential_average

__all__ = ["Gompertz"]


class Gompertz(Univariate):
    """Lifetimes whose hazard grows exponentially.

    Formula: `P(X > x) = exp(-concentration * (exp(rate * x) - 1))`.

    Mean, variance and entropy are sums over fixed nodes, exact to rounding.

    Args:
        concentration: positive; the hazard at zero is `concentration * rate`.
        rate: positive.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Johnson, Kotz and Balakrishnan (1995), Continuous Univariate Distributions 2, chapter 22.

    Example:
        >>> import torch
        >>> q = Gompertz(torch.tensor([0.1, 1.0]), 1.0)
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 2]), tensor([2.0146, 0.5963]))
    """

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    concentration: Tensor
    rate: Tensor

    def __init__(self, concentration: Tensor | float, rate: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, concentration=concentration, rate=rate)

    def _log_density(self, x: Tensor) -> Tensor:
        grown = self.rate * x
        return self.concentration.log() + self.rate.log() + grown - self.concentration * torch.expm1(grown)

    def _grown_mean(self) -> Tensor:
        """The mean of `rate * x`."""
        return exponential_average(lambda eps: torch.log1p(eps / self.concentration), self.concentration)

    @property
    def mean(self) -> Tensor:
        return self._grown_mean() / self.rate

    @property
    def mode(self) -> Tensor:
        return -self.concentration.log().clamp(max=0.0) / self.rate

    @property
    def variance(self) -> Tensor:
        c, mean = self.concentration, self._grown_mean()
        return exponential_average(lambda eps: (torch.log1p(eps / c) - mean).square(), c) / self.rate.square()

    def entropy(self) -> Tensor:
        return 1 - self.concentration.log() - self.rate.log() - self._grown_mean()


@path.register
def gompertz_path(d: Gompertz) -> Path:
    """`x = log(1 + eps / concentration) / rate`."""
    concentration, rate = d.concentration, d.rate
    root = concentration.sqrt()  # the slope of `eps / concentration` holds a square that may leave the floats
    return Path(
        noise_like(rate, EXPONENTIAL),
        lambda eps: normal_range(torch.log1p(eps / root / root) / rate),
        lambda x: concentration * torch.expm1(rate * x),
    )
