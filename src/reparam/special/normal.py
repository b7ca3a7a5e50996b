"""The normal law in both tails: log-probabilities, quantiles and hazards that no tail rounds away, differentiable to any order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reparam.special.slopes import with_slopes
from reparam.special.tails import LOG2

__all__ = ["hazard_from_normal", "log_ndtr", "log_ndtri", "normal_excess", "normal_from_hazard", "normal_ratio"]

_FAR = 5.0  # beyond it the continued fraction is exact after so many terms
_TERMS = 28
_LOG_2_PI = math.log(2 * math.pi)


def _wide(z: Tensor) -> Tensor:
    """`z` in single precision at least: torch has no `erfcx` in half precision."""
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def log_ndtr(z: Tensor) -> Tensor:
    """`log P(Z <= z)` of a standard normal, with derivatives of any order that stay exact where `z` is far out.

    The slope is `normal_ratio(z)`, about `-z` in the far lower tail.

    Example:
        >>> import torch
        >>> z = torch.tensor(-1e4, requires_grad=True)
        >>> slope, = torch.autograd.grad(log_ndtr(z), z, create_graph=True)
        >>> bend, = torch.autograd.grad(slope, z)
        >>> bend
        tensor(-1.)
    """
    wide = _wide(z)
    with torch.no_grad():
        value = _log_ndtr(wide.detach())
    return with_slopes(value, lambda _, z: (normal_ratio(z),), wide).to(z.dtype)


def _log_ndtr(z: Tensor) -> Tensor:
    """The value: that of `torch.special.log_ndtr`, which `vmap` has no rule for."""
    lower = z.clamp(max=-1.0)
    below = torch.log(torch.special.erfcx(lower / -math.sqrt(2)) / 2) - lower * lower / 2
    return torch.where(z < -1, below, torch.log1p(torch.erfc(z.clamp(min=-1.0) / math.sqrt(2)) / -2))


def normal_ratio(z: Tensor) -> Tensor:
    """`phi(z) / Phi(z)`, density over distribution function of a standard normal: the inverse of Mills' ratio at `-z`.

    Example:
        >>> import torch
        >>> normal_ratio(torch.tensor([-1e4, 0.0, 9.0]))
        tensor([1.0000e+04, 7.9788e-01, 1.0280e-18])
    """
    dtype, z = z.dtype, _wide(z)
    far, excess = _far_excess(z)
    near = torch.where(far, 0.0, z)
    with torch.no_grad():
        at = near.detach()
        lower = math.sqrt(2 / math.pi) / torch.special.erfcx(at.clamp(max=0.0) / -math.sqrt(2))
        above = at.clamp(min=0.0)
        upper = torch.exp(-above * above / 2) / (math.sqrt(math.pi / 2) * (1 + torch.erf(above / math.sqrt(2))))
        value = torch.where(at < 0, lower, upper)
    return torch.where(far, excess - z, with_slopes(value, lambda ratio, z: (-ratio * (z + ratio),), near)).to(dtype)


def normal_excess(z: Tensor) -> Tensor:
    """`normal_ratio(z) + z`, about `-1/z` in the far lower tail, where the difference would cancel.

    Example:
        >>> import torch
        >>> normal_excess(torch.tensor([-1e4, 0.0]))
        tensor([1.0000e-04, 7.9788e-01])
    """
    wide = _wide(z)
    far, excess = _far_excess(wide)
    near = torch.where(far, 0.0, wide)
    return torch.where(far, excess, normal_ratio(near) + near).to(z.dtype)


def _far_excess(z: Tensor) -> tuple[Tensor, Tensor]:
    """Whether `z` is far below zero, and there the excess by Laplace's continued fraction, `1/(x + 2/(x + 3/(x + ...)))`.

    It is exact in every derivative, where `z + ratio` would cancel.
    """
    far = z < -_FAR
    x = torch.where(far, -z, _FAR)
    rest = x
    for k in range(_TERMS, 1, -1):
        rest = x + k / rest
    return far, 1 / rest


def log_ndtri(log_p: Tensor) -> Tensor:
    """The quantile of a standard normal at `exp(log_p)`: exact where that is below every float, and where it rounds to one.

    Solves `log_ndtr(z) = log_p`; the slope is `1 / normal_ratio(z)`.

    Example:
        >>> import torch
        >>> log_ndtri(torch.tensor([-1e5, -1.0, -1e-30]))
        tensor([-4.4720e+02, -3.3747e-01,  1.1464e+01])
    """
    wide = _wide(log_p)
    with torch.no_grad():
        value = _quantile(wide.detach())
    return with_slopes(value, lambda z, log_p: (1 / normal_ratio(z),), wide).to(log_p.dtype)


def _quantile(log_p: Tensor) -> Tensor:
    upper = log_p > -LOG2
    p = torch.where(upper, -torch.expm1(log_p), torch.exp(log_p))
    z = torch.special.ndtri(p)
    z = torch.where(upper, -z, z)
    # Where exp(log_p) nears the least float: the leading terms of the tail, then Newton's method on log_ndtr, which is concave.
    far = log_p < -60.0
    t = -2 * torch.where(far, log_p, -60.0)
    y = -torch.sqrt(t - _LOG_2_PI - torch.log(t - _LOG_2_PI))
    for _ in range(2):
        ratio = math.sqrt(2 / math.pi) / torch.special.erfcx(y / -math.sqrt(2))
        y = y - (_log_ndtr(y) + t / 2) / ratio
    return torch.where(far, y, z)


def normal_from_hazard(eps: Tensor) -> Tensor:
    """The standard normal value with `-log P(Z > z) = eps`: exponential noise as normal noise, exact in both tails.

    Example:
        >>> import torch
        >>> normal_from_hazard(torch.tensor([1e-30, 1.0, 1e5]))
        tensor([-1.1464e+01,  3.3747e-01,  4.4720e+02])
    """
    return -log_ndtri(-eps)


def hazard_from_normal(z: Tensor) -> Tensor:
    """`-log P(Z > z)` of a standard normal: normal noise as exponential noise, exact in both tails.

    Example:
        >>> import torch
        >>> hazard_from_normal(torch.tensor([-9.0, 0.0, 1e3]))
        tensor([1.1286e-19, 6.9315e-01, 5.0001e+05])
    """
    return -log_ndtr(-z)
