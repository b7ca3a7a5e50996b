"""Student's t: both tails in logarithms, the quantile, and the derivative in the degrees of freedom.

`T^2 / df` is the odds of a Beta(1/2, df/2) variable, so that `y = log(t^2 / df)` is a logit, and everything comes from the
incomplete beta function of logits: both tails whole, from `df = 1e-3`, where samples leave the floats, to the normal limit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from reparam.special.beta import log_betaincc, logit_beta_quantile, logit_beta_slopes, stirling_error
from reparam.special.saturate import normal_exp
from reparam.special.slopes import with_slopes
from reparam.special.tails import LOG2

__all__ = ["log_student_cdf", "log_student_sf", "student_log_density", "student_quantile", "student_slope"]

_LEAST = 1e-150  # samples nearer to zero than that are taken to be there


def _wide(df: Tensor, other: Tensor) -> tuple[torch.dtype, Tensor, Tensor]:
    wide = torch.broadcast_tensors(df.double(), other.double())
    return torch.promote_types(df.dtype, other.dtype), *wide


def _logit(df: Tensor, t: Tensor) -> Tensor:
    return 2 * t.abs().clamp(min=_LEAST).log() - df.log()


def _log_density(df: Tensor, t: Tensor) -> Tensor:
    half = df / 2
    height = half * torch.log1p(0.5 / half) - 0.5 + stirling_error(half + 0.5) - stirling_error(half)
    return height - 0.5 * math.log(2 * math.pi) - (half + 0.5) * softplus(_logit(df, t))


def _slope(df: Tensor, t: Tensor) -> Tensor:
    _, by_b = logit_beta_slopes(torch.full_like(df, 0.5), df / 2, _logit(df, t))
    return t * (1 / df + by_b / 2) / 2


def _log_sf(df: Tensor, t: Tensor) -> Tensor:
    def slopes(value: Tensor, df: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        rate = torch.exp(_log_density(df, t) - value)
        return rate * _slope(df, t), -rate

    below, at = df.detach(), t.detach()
    beyond = log_betaincc(torch.full_like(below, 0.5), below / 2, _logit(below, at)) - LOG2
    return with_slopes(torch.where(at > 0, beyond, torch.log1p(-beyond.exp())), slopes, df, t)


def student_log_density(df: Tensor, t: Tensor) -> Tensor:
    """Log-density of Student's t with `df` degrees of freedom, without cancellation for large ones.

    Example:
        >>> import torch
        >>> student_log_density(torch.tensor([1.0, 1e12]), torch.tensor(0.0)).exp()     # 1 / pi; 1 / sqrt(2 pi)
        tensor([0.3183, 0.3989])
    """
    dtype, *wide = _wide(df, t)
    return _log_density(*wide).to(dtype)


def log_student_sf(df: Tensor, t: Tensor) -> Tensor:
    """`log P(T > t)` of Student's t, exact far into both tails; differentiable in `df` and `t` to any order.

    Computed in float64 and rounded to the type of the arguments.

    Example:
        >>> import torch
        >>> log_student_sf(torch.tensor(1.0), torch.tensor([0.0, 1.0])).exp()
        tensor([0.5000, 0.2500])
    """
    dtype, *wide = _wide(df, t)
    return _log_sf(*wide).to(dtype)


def log_student_cdf(df: Tensor, t: Tensor) -> Tensor:
    """`log P(T <= t)` of Student's t; otherwise as `log_student_sf`, which it mirrors.

    Example:
        >>> import torch
        >>> log_student_cdf(torch.tensor(2.0), torch.tensor(-1e10)) / 46       # the tail is t^-2 / 2
        tensor(-1.0162)
    """
    return log_student_sf(df, -t)


def student_slope(df: Tensor, t: Tensor) -> Tensor:
    """`dt/d df` of Student's t at fixed probability: the implicit gradient (arXiv:1805.08498); differentiable to any order.

    Example:
        >>> import torch
        >>> df = torch.tensor([1.0, 10.0, 1e3])
        >>> student_slope(df, torch.tensor(2.0)) * df**2        # in the normal limit -(t + t^3) / 4
        tensor([-1.5210, -2.3267, -2.4980])
    """
    dtype, *wide = _wide(df, t)
    return _slope(*wide).to(dtype)


def student_quantile(df: Tensor, hazard: Tensor) -> Tensor:
    """The value that Student's t exceeds with probability `exp(-hazard)`, exact in both tails, differentiable to any order.

    Values beyond the floats are held at the largest one, with zero gradient there.

    Example:
        >>> import math, torch
        >>> student_quantile(torch.tensor(1.0), torch.tensor([math.log(4 / 3), math.log(4), 40.0]))
        tensor([-1.0000e+00,  1.0000e+00,  7.4925e+16])
    """
    dtype, df, hazard = _wide(df, hazard)
    upper = hazard > LOG2
    # The hazard of |T| beyond the value: of twice the smaller tail.
    beyond = torch.where(upper, hazard, -torch.log(-torch.expm1(-torch.where(upper, LOG2, hazard)))) - LOG2
    y = logit_beta_quantile(torch.full_like(df, 0.5), df / 2, beyond.clamp(min=1e-300))
    t = normal_exp((y + df.log()) / 2)
    return torch.where(upper, t, -t).to(dtype)
