"""The law of the logit of a Beta variable: a Beta whose mass near 0 and 1 floats can hold."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from reparam.distributions.law import Univariate
from reparam.paths.beta import logit_beta_path
from reparam.paths.path import Path, path
from reparam.special.beta import logit_beta_log_density

__all__ = ["LogitBeta", "logit_beta_entropy"]


class LogitBeta(Univariate):
    """`Y = log X - log(1 - X)` for `X` of law Beta(a, b); the logistic law is `a = b = 1`.

    Density: `sigmoid(y)^a sigmoid(-y)^b / B(a, b)`. A cost of `x` near 1 is best written in `y`: `1 - x = sigmoid(-y)`.

    Args:
        concentration1: `a > 0`, the power of `x`.
        concentration0: `b > 0`, the power of `1 - x`, as in torch's Beta.

    Example:
        >>> import torch
        >>> y = LogitBeta(torch.tensor(1e-3), 1e-3).rsample((1000,))
        >>> bool((y.abs() > 20).any())              # where a Beta would be 0 or 1
        True
    """

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.real
    concentration1: Tensor
    concentration0: Tensor

    def __init__(self, concentration1: Tensor | float, concentration0: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, concentration1=concentration1, concentration0=concentration0)

    def _log_density(self, x: Tensor) -> Tensor:
        return logit_beta_log_density(self.concentration1, self.concentration0, x)

    @property
    def mean(self) -> Tensor:
        """`psi(a) - psi(b)`."""
        return torch.digamma(self.concentration1) - torch.digamma(self.concentration0)

    @property
    def variance(self) -> Tensor:
        """`psi'(a) + psi'(b)`."""
        return torch.polygamma(1, self.concentration1) + torch.polygamma(1, self.concentration0)

    @property
    def mode(self) -> Tensor:
        return self.concentration1.log() - self.concentration0.log()

    def entropy(self) -> Tensor:
        """`log B(a, b) - a (psi(a) - psi(a + b)) - b (psi(b) - psi(a + b))`."""
        return logit_beta_entropy(self.concentration1, self.concentration0)


def logit_beta_entropy(a: Tensor, b: Tensor) -> Tensor:
    """The entropy of the logit of Beta(a, b)."""
    left, right = _beyond_mode(a, b)
    return -_at_mode(a, b, a, b) - a * left - b * right


def _at_mode(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The log-density of LogitBeta(c, d) at the mode of LogitBeta(a, b)."""
    return logit_beta_log_density(c, d, a.log() - b.log())


def _beyond_mode(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """`E log x` and `E log(1 - x)` less their values at the mode of the logit, `x = a / (a + b)`: small for large shapes."""
    gap = _digamma_gap(a + b)
    return _digamma_gap(a) - gap, _digamma_gap(b) - gap


def _digamma_gap(t: Tensor) -> Tensor:
    """`psi(t) - log t`, by its asymptotic series where the two cancel."""
    large = t > 20
    far, near = torch.where(large, t, 20.0), torch.where(large, 1.0, t)
    square = far**-2
    series = -1 / (2 * far) - square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    return torch.where(large, series, torch.digamma(near) - near.log())


@path.register
def logit_beta_law_path(d: LogitBeta) -> Path:
    """The quantile, with the implicit gradient."""
    a, b = d.concentration1, d.concentration0
    return logit_beta_path(a, b, lambda y: y.to(a.dtype), lambda y: y)


@register_kl(LogitBeta, LogitBeta)  # type: ignore[untyped-decorator]
def _kl_logit_beta(p: LogitBeta, q: LogitBeta) -> Tensor:
    a, b, c, d = p.concentration1, p.concentration0, q.concentration1, q.concentration0
    left, right = _beyond_mode(a, b)
    return _at_mode(a, b, a, b) - _at_mode(a, b, c, d) + (a - c) * left + (b - d) * right
