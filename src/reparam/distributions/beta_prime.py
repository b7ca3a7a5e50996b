"""The odds of a Beta variable."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints, kl_divergence, register_kl

from reparam.distributions.law import Univariate
from reparam.distributions.logit_beta import LogitBeta, logit_beta_entropy
from reparam.paths.beta import logit_beta_path
from reparam.paths.gamma import exp_as
from reparam.paths.path import Path, path
from reparam.special.beta import logit_beta_log_density

__all__ = ["BetaPrime"]


class BetaPrime(Univariate):
    """`X / (1 - X)` for `X` of law Beta(a, b): the ratio of two gammas of one rate.

    Density: `x^(a - 1) (1 + x)^(-a - b) / B(a, b)`.

    Args:
        concentration1: `a > 0`; the density near zero is as `x^(a - 1)`.
        concentration0: `b > 0`; the upper tail falls as `x^-b`, and moments below the `b`-th exist.

    Example:
        >>> import torch
        >>> BetaPrime(torch.tensor(2.0), 3.0).mean
        tensor(1.)
    """

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.positive
    concentration1: Tensor
    concentration0: Tensor

    def __init__(self, concentration1: Tensor | float, concentration0: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, concentration1=concentration1, concentration0=concentration0)

    def _log_density(self, x: Tensor) -> Tensor:
        log_x = x.log()
        return logit_beta_log_density(self.concentration1, self.concentration0, log_x) - log_x

    @property
    def mean(self) -> Tensor:
        """`a / (b - 1)`; infinite up to `b = 1`."""
        a, b = self.concentration1, self.concentration0
        return torch.where(b > 1, a / torch.where(b > 1, b - 1, 1.0), torch.inf)

    @property
    def variance(self) -> Tensor:
        """`a (a + b - 1) / ((b - 2) (b - 1)^2)`; infinite up to `b = 2`, and undefined where the mean is infinite."""
        a, b = self.concentration1, self.concentration0
        safe = torch.where(b > 2, b, 3.0)
        value = torch.where(b > 2, a * (a + safe - 1) / ((safe - 2) * (safe - 1) ** 2), torch.inf)
        return torch.where(b > 1, value, torch.nan)

    @property
    def mode(self) -> Tensor:
        """`(a - 1) / (b + 1)`; zero up to `a = 1`."""
        return (self.concentration1 - 1).clamp(min=0.0) / (self.concentration0 + 1)

    def entropy(self) -> Tensor:
        """That of the logarithm and its mean, `psi(a) - psi(b)`."""
        a, b = self.concentration1, self.concentration0
        return logit_beta_entropy(a, b) + torch.digamma(a) - torch.digamma(b)


@path.register
def beta_prime_path(d: BetaPrime) -> Path:
    """`log x` is the logit of a Beta variable."""
    a, b = d.concentration1, d.concentration0
    return logit_beta_path(a, b, lambda y: exp_as(y, a.dtype), torch.log)


@register_kl(BetaPrime, BetaPrime)  # type: ignore[untyped-decorator]
def _kl_beta_prime(p: BetaPrime, q: BetaPrime) -> Tensor:
    # That of the logits: the logarithm changes no divergence.
    p_logit, q_logit = (LogitBeta(d.concentration1, d.concentration0, validate_args=False) for d in (p, q))
    return kl_divergence(p_logit, q_logit)
