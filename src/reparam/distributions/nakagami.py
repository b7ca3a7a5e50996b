"""The Nakagami law."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Gamma, constraints, kl_divergence, register_kl

from reparam.distributions.chi import chi_variance
from reparam.distributions.law import Univariate
from reparam.paths.gamma import exp_as, gamma_based
from reparam.paths.path import Path, path
from reparam.special.gamma import log_gamma_density
from reparam.special.tails import LOG2

__all__ = ["Nakagami"]


class Nakagami(Univariate):
    """The root of a Gamma variable: strengths of a signal that fades.

    Formula: `X = sqrt(G)` with `G` of law Gamma(concentration, concentration / spread), so that `E[X^2] = spread`.

    Args:
        concentration: positive; 1/2 is the half-normal law and 1 that of Rayleigh.
        spread: the mean of the square; positive.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Nakagami (1960), The m-distribution.

    Example:
        >>> import torch
        >>> q = Nakagami(torch.tensor([0.5, 1.0]), 2.0)
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 2]), tensor([1.1284, 1.2533]))
    """

    arg_constraints = {"concentration": constraints.positive, "spread": constraints.positive}
    support = constraints.positive
    concentration: Tensor
    spread: Tensor

    def __init__(self, concentration: Tensor | float, spread: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, concentration=concentration, spread=spread)

    def _square(self) -> Gamma:
        return Gamma(self.concentration, self.concentration / self.spread, validate_args=False)

    def _log_density(self, x: Tensor) -> Tensor:
        m, log_x = self.concentration.double(), x.double().log()
        of_log = log_gamma_density(m, 2 * log_x + m.log() - self.spread.double().log())
        return (of_log + LOG2 - log_x).to(self.spread.dtype)

    def _relative_mean(self) -> Tensor:
        """The mean over the root of the spread, in float64: near one for large concentrations."""
        m = self.concentration.double()
        return torch.exp(torch.lgamma(m + 0.5) - torch.lgamma(m) - m.log() / 2)

    @property
    def mean(self) -> Tensor:
        return self._relative_mean().to(self.spread.dtype) * self.spread.sqrt()

    @property
    def mode(self) -> Tensor:
        return (self.spread * (1 - 0.5 / self.concentration).clamp(min=0.0)).sqrt()

    @property
    def variance(self) -> Tensor:
        df = 2 * self.concentration.double()
        return self.spread * (chi_variance(df) / df).to(self.spread.dtype)

    def entropy(self) -> Tensor:
        m = self.concentration.double()
        entropy = m + torch.lgamma(m) + (0.5 - m) * torch.digamma(m) - m.log() / 2 - LOG2
        return entropy.to(self.spread.dtype) + self.spread.log() / 2


@path.register
def nakagami_path(d: Nakagami) -> Path:
    """`log x = (log G - log concentration + log spread) / 2`, `G` the quantile of Gamma(concentration, 1)."""
    shift, dtype = d.spread.double().log() - d.concentration.double().log(), d.spread.dtype
    return gamma_based(d.concentration, lambda log_g: exp_as((log_g + shift) / 2, dtype), lambda x: 2 * x.log() - shift)


@register_kl(Nakagami, Nakagami)  # type: ignore[untyped-decorator]
def _kl(p: Nakagami, q: Nakagami) -> Tensor:
    return kl_divergence(p._square(), q._square())
