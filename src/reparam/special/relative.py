"""Quotients with a removable singularity at zero, smooth through it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["exprel", "log1prel"]

# Taylor coefficients in the squared argument. Inside the radii used here (1/4 and 1/49) the terms left out are below 1e-17 in
# float64, and below 1e-9 in float32 with the first six; two terms of derivatives have room.
_SINHC = tuple(1.0 / math.factorial(2 * k + 1) for k in range(9))
_ATANHC = tuple(1.0 / (2 * k + 1) for k in range(11))


def exprel(t: Tensor) -> Tensor:
    """`(exp(t) - 1) / t`, which is 1 at zero, with exact derivatives of any order there.

    Formula: `exp(t/2) sinh(t/2) / (t/2)` for `|t| < 1`, where the second factor is a series in `t**2`.

    Example:
        >>> import torch
        >>> exprel(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 1.7183])
    """
    near = t.abs() < 1.0
    # Each branch sees only arguments it can bear, so that no infinite derivative leaks through `where`.
    small = torch.where(near, t, 0.0) / 2
    large = torch.where(near, 1.0, t)
    return torch.where(near, small.exp() * _polynomial(_SINHC, small * small), torch.expm1(large) / large)


def log1prel(t: Tensor) -> Tensor:
    """`log(1 + t) / t`, which is 1 at zero, with exact derivatives of any order there.

    Formula: `2 atanh(w) / t` with `w = t / (2 + t)` for `|t| < 1/4`, a series in `w**2`.

    Example:
        >>> import torch
        >>> log1prel(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.6931])
    """
    near = t.abs() < 0.25
    small = torch.where(near, t, 0.0)
    large = torch.where(near, 1.0, t)
    w = small / (2.0 + small)
    return torch.where(near, _polynomial(_ATANHC, w * w) * 2.0 / (2.0 + small), torch.log1p(large) / large)


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    coefficients = coefficients if x.dtype == torch.float64 else coefficients[:6]
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value
