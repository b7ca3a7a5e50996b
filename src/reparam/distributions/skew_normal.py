"""The skew normal law."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL, reflect_exponential
from reparam.paths.path import Path, noise_like, path
from reparam.special import with_slopes
from reparam.special.normal import log_ndtr, normal_from_hazard, normal_ratio

__all__ = ["SkewNormal"]

_NODES, _WEIGHTS = ((v / 2 + shift).tolist() for v, shift in zip(np.polynomial.legendre.leggauss(16), (0.5, 0.0), strict=True))


class SkewNormal(Univariate):
    """A normal law with a side: that of one variable given that another one, correlated with it, is positive.

    Formula: `p(x) = 2 / scale * phi(z) * Phi(skewness * z)`, `z = (x - loc) / scale`.

    Args:
        loc: of the normal law without skewness.
        scale: positive.
        skewness: the shape, often called alpha: any number, positive for a longer upper tail.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Azzalini, "A class of distributions which includes the normal ones" (1985).

    Example:
        >>> import torch
        >>> d = SkewNormal(torch.zeros(3), 1.0, torch.tensor([-2.0, 0.0, 2.0]))
        >>> d.rsample((5,)).shape, d.mean
        (torch.Size([5, 3]), tensor([-0.7136,  0.0000,  0.7136]))
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "skewness": constraints.real}
    support = constraints.real
    loc: Tensor
    scale: Tensor
    skewness: Tensor

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float, skewness: Tensor | float, validate_args: bool | None = None
    ) -> None:
        self._set(validate_args, loc=loc, scale=scale, skewness=skewness)

    def _log_density(self, x: Tensor) -> Tensor:
        return _log_density((x - self.loc) / self.scale, self.skewness) - self.scale.log()

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * _middle(self.skewness)

    @property
    def variance(self) -> Tensor:
        return self.scale**2 * (1 - _middle(self.skewness) ** 2)


@path.register
def skew_normal_path(d: SkewNormal) -> Path:
    """`x = loc + scale * z`: `z` is solved for on the smaller tail, its slope in the skewness is closed.

    Fresh samples are made of two normal variables each.
    """
    loc, scale, a = d.loc, d.scale, d.skewness

    def push(eps: Tensor) -> Tensor:
        with torch.no_grad():
            value = _solve(eps.detach(), a.detach())
        return torch.addcmul(loc, scale, with_slopes(value, _quantile_slopes, eps, a))

    def pull(x: Tensor) -> Tensor:
        z = (x - loc) / scale
        # Beyond, squares are beyond the floats, and so is the hazard of either tail.
        beyond = z.abs() * torch.hypot(torch.ones_like(a), a) > math.sqrt(torch.finfo(z.dtype).max) / 8
        z, end = torch.where(beyond, 0.0, z), torch.where(z > 0, torch.inf, 0.0)
        with torch.no_grad():
            value = _hazard(z.detach(), a.detach())
        return torch.where(beyond, end, with_slopes(value, _hazard_slopes, z, a))

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        with torch.no_grad():
            shape = (2, *rows, *loc.shape)
            one, other = torch.randn(shape, generator=generator, dtype=loc.dtype, device=loc.device)
            value = (a * one.abs() + other) / torch.hypot(torch.ones_like(a), a)
        return torch.addcmul(loc, scale, with_slopes(value, lambda z, a: (_skew_slope(z, a),), a))

    return Path(noise_like(loc, EXPONENTIAL), push, pull, sample)


def _log_density(z: Tensor, a: Tensor) -> Tensor:
    return math.log(2 / math.pi) / 2 - z**2 / 2 + log_ndtr(a * z)


def _skew_slope(z: Tensor, a: Tensor) -> Tensor:
    """The slope of the quantile: `dF/da = -2 phi(z) phi(a z) / (1 + a^2)` over minus the density."""
    return normal_ratio(a * z) / (1 + a**2)


def _quantile_slopes(z: Tensor, eps: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    return torch.exp(-eps - _log_density(z, a)), _skew_slope(z, a)


def _hazard_slopes(eps: Tensor, z: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    rate = torch.exp(_log_density(z, a) + eps)
    return rate, -rate * _skew_slope(z, a)


def _log_lower(z: Tensor, a: Tensor) -> Tensor:
    """`log P(Z <= z)`, exact where that is small: the density at `z` times the integral of its quotient with that below `z`.

    It is cut where the quotient is below rounding, and taken in panels that end where `Phi(a t)` bends.
    """
    start = log_ndtr(a * z)
    end = -torch.sqrt(z.clamp(max=0.0) ** 2 + 85 / (1 + a.clamp(min=0.0) ** 2))
    bend = 7 / a.abs().clamp(min=1.5)
    total = torch.zeros_like(z)
    high = z
    for cut in (bend, torch.zeros_like(bend), -bend, end):
        low = torch.minimum(torch.maximum(cut, end), z)
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            step = z - high + (high - low) * node
            total = total + (high - low) * weight * torch.exp(step * (z - step / 2) + log_ndtr(a * (z - step)) - start)
        high = low
    return torch.log(total) + _log_density(z, a)


def _hazard(z: Tensor, a: Tensor) -> Tensor:
    middle = _middle(a)
    upper = z > middle
    log_tail = _log_lower(torch.where(upper, -z, z), torch.where(upper, -a, a))
    return torch.where(upper, -log_tail, reflect_exponential(-torch.where(upper, -1.0, log_tail)))


def _middle(a: Tensor) -> Tensor:
    """The mean."""
    return math.sqrt(2 / math.pi) * a / torch.hypot(torch.ones_like(a), a)


def _solve(eps: Tensor, a: Tensor) -> Tensor:
    middle = _middle(a)
    upper = eps > -_log_lower(-middle, -a)
    # The upper tail is the lower one of the law with the other sign.
    sign = torch.where(upper, -1.0, 1.0).to(eps.dtype)
    target = torch.where(upper, -eps, -reflect_exponential(eps))
    side, top = sign * a, sign * middle
    # Between the normal law that it is far from the skewed end, and the narrower one at that end.
    spread = torch.sqrt(1 - middle**2)
    far = normal_from_hazard(reflect_exponential(-target))
    narrow = far / torch.hypot(torch.ones_like(a), side.clamp(min=0.0))
    z = torch.where(side > 0, torch.maximum(top + spread * far, narrow), top + spread * far)
    z = torch.minimum(z, top)
    for _ in range(7):
        log_tail = _log_lower(z, side)
        slope = torch.exp(_log_density(z, side) - log_tail)
        step = (log_tail - target) / slope
        curve = side * normal_ratio(side * z) - z - slope
        z = torch.minimum(z - step / (1 - (step * curve / 2).clamp(-4.0, 0.5)), top)
    return sign * z
