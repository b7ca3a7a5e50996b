"""The log of a Gamma variable."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from reparam.distributions.law import Univariate
from reparam.paths.gamma import gamma_based
from reparam.paths.path import Path, path
from reparam.special.gamma import log_gamma_density

__all__ = ["LogGamma"]


class LogGamma(Univariate):
    """`log G` for `G` of law Gamma(concentration, rate): what small concentrations need, whose samples no float holds.

    Formula: `log p(x) = concentration * (x + log rate) - rate * exp(x) - log Gamma(concentration)`.

    Args:
        concentration: positive, however small.
        rate: positive.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Johnson, Kotz and Balakrishnan (1995), Continuous Univariate Distributions 2, chapter 22.

    Example:
        >>> import torch
        >>> q = LogGamma(torch.tensor([1e-6, 1.0]), 1.0)
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 2]), tensor([-1.0000e+06, -5.7722e-01]))
    """

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.real
    concentration: Tensor
    rate: Tensor

    def __init__(self, concentration: Tensor | float, rate: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, concentration=concentration, rate=rate)

    def _log_density(self, x: Tensor) -> Tensor:
        return log_gamma_density(self.concentration, x.double() + self.rate.double().log()).to(self.rate.dtype)

    @property
    def mean(self) -> Tensor:
        return torch.digamma(self.concentration) - self.rate.log()

    @property
    def mode(self) -> Tensor:
        return self.concentration.log() - self.rate.log()

    @property
    def variance(self) -> Tensor:
        return torch.polygamma(1, self.concentration)

    def entropy(self) -> Tensor:
        # In float64: for large concentrations the terms cancel.
        a = self.concentration.double()
        return (a + torch.lgamma(a) - a * torch.digamma(a)).to(self.concentration.dtype)


@path.register
def log_gamma_path(d: LogGamma) -> Path:
    """`x = log G - log rate`."""
    log_rate, dtype = d.rate.double().log(), d.rate.dtype
    return gamma_based(d.concentration, lambda log_g: (log_g - log_rate).to(dtype), lambda x: x + log_rate)


@register_kl(LogGamma, LogGamma)  # type: ignore[untyped-decorator]
def _kl(p: LogGamma, q: LogGamma) -> Tensor:
    # Of variables that are one-to-one functions of others, the divergence is that of the others.
    gammas = [torch.distributions.Gamma(d.concentration, d.rate, validate_args=False) for d in (p, q)]
    return torch.distributions.kl_divergence(*gammas)
