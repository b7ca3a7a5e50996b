"""The chi law."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Chi2, constraints, kl_divergence, register_kl

from reparam.distributions.law import Univariate
from reparam.paths.gamma import exp_as, gamma_based
from reparam.paths.path import Path, path
from reparam.special.gamma import log_gamma_density
from reparam.special.tails import LOG2

__all__ = ["Chi"]


class Chi(Univariate):
    """The length of a standard normal vector of `df` dimensions, which need not be whole.

    Formula: `X = sqrt(2 G)` with `G` of law Gamma(df / 2, 1).

    Args:
        df: degrees of freedom; positive.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Johnson, Kotz and Balakrishnan (1994), Continuous Univariate Distributions 1, chapter 18.

    Example:
        >>> import torch
        >>> q = Chi(torch.tensor([1.0, 2.0, 3.0]))
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 3]), tensor([0.7979, 1.2533, 1.5958]))
    """

    arg_constraints = {"df": constraints.positive}
    support = constraints.positive
    df: Tensor

    def __init__(self, df: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, df=df)

    def _log_density(self, x: Tensor) -> Tensor:
        log_x = x.double().log()
        return (log_gamma_density(self.df.double() / 2, 2 * log_x - LOG2) + LOG2 - log_x).to(self.df.dtype)

    def _wide_mean(self) -> Tensor:
        """In float64: the variance is a difference of large numbers for many degrees of freedom."""
        half = self.df.double() / 2
        return torch.exp(torch.lgamma(half + 0.5) - torch.lgamma(half) + LOG2 / 2)

    @property
    def mean(self) -> Tensor:
        return self._wide_mean().to(self.df.dtype)

    @property
    def mode(self) -> Tensor:
        return (self.df - 1).clamp(min=0.0).sqrt()

    @property
    def variance(self) -> Tensor:
        return chi_variance(self.df.double()).to(self.df.dtype)

    def entropy(self) -> Tensor:
        half = self.df.double() / 2
        return (half + torch.lgamma(half) + (0.5 - half) * torch.digamma(half) - LOG2 / 2).to(self.df.dtype)


def chi_variance(df: Tensor) -> Tensor:
    """`df - mean**2`, by its asymptotic series where the two cancel."""
    large = df > 200
    near, inverse = torch.where(large, 1.0, df), 1 / torch.where(large, df, 200.0)
    series = 0.5 - inverse * (1 / 8 + inverse * (1 / 16 - inverse * (5 / 128 + inverse * (23 / 256 - inverse * (53 / 1024)))))
    mean_squared = 2 * torch.exp(2 * (torch.lgamma(near / 2 + 0.5) - torch.lgamma(near / 2)))
    return torch.where(large, series, near - mean_squared)


@path.register
def chi_path(d: Chi) -> Path:
    """`log x = (log G + log 2) / 2`, `G` the quantile of Gamma(df / 2, 1)."""
    dtype = d.df.dtype
    return gamma_based(d.df / 2, lambda log_g: exp_as((log_g + LOG2) / 2, dtype), lambda x: 2 * x.log() - LOG2)


@register_kl(Chi, Chi)  # type: ignore[untyped-decorator]
def _kl(p: Chi, q: Chi) -> Tensor:
    return kl_divergence(*[Chi2(d.df, validate_args=False) for d in (p, q)])
