"""The sum of a normal and an exponential variable."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from reparam.distributions.law import Univariate
from reparam.noise import NORMAL
from reparam.paths.path import HALF, Path, noise_like, path
from reparam.special.normal import hazard_from_normal, log_ndtr, normal_excess, normal_ratio

__all__ = ["ExponentiallyModifiedNormal"]

_HALF_LOG_2_PI = math.log(2 * math.pi) / 2
_FAR = 1e15  # its square is a float
# Gauss-Legendre with eight nodes on [0, 1].
_NODES = (
    0.019855071751231912,
    0.10166676129318664,
    0.2372337950418355,
    0.4082826787521751,
    0.5917173212478248,
    0.7627662049581645,
    0.8983332387068134,
    0.9801449282487681,
)
_WEIGHTS = (
    0.05061426814518853,
    0.11119051722668721,
    0.15685332293894344,
    0.18134189168918083,
    0.18134189168918083,
    0.15685332293894344,
    0.11119051722668721,
    0.05061426814518853,
)


class ExponentiallyModifiedNormal(Univariate):
    """A normal variable plus an independent exponential one: reaction times, chromatographic peaks.

    Formula: `p(x) = rate * exp(rate * (loc - x) + (rate * scale)^2 / 2) * Phi((x - loc) / scale - rate * scale)`.

    Args:
        loc: the mean of the normal part.
        scale: the standard deviation of the normal part, positive.
        rate: of the exponential part, positive.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Grushka, "Characterization of exponentially modified Gaussian peaks in chromatography" (1972).

    Example:
        >>> import torch
        >>> d = ExponentiallyModifiedNormal(torch.zeros(3), 1.0, 2.0)
        >>> d.rsample((5,)).shape, d.mean
        (torch.Size([5, 3]), tensor([0.5000, 0.5000, 0.5000]))
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "rate": constraints.positive}
    support = constraints.real
    loc: Tensor
    scale: Tensor
    rate: Tensor

    def __init__(self, loc: Tensor | float, scale: Tensor | float, rate: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, loc=loc, scale=scale, rate=rate)

    def _log_density(self, x: Tensor) -> Tensor:
        """With `z = (x - loc) / scale` and `b = z - rate * scale` the exponent is `(b^2 - z^2) / 2`."""
        dtype = torch.promote_types(x.dtype, self.loc.dtype)
        # The terms are squares: in half precision neither their range nor their digits would do.
        loc, scale, rate, x = (t.float() if t.dtype in HALF else t for t in (self.loc, self.scale, self.rate, x))
        z = (x - loc) / scale
        product = rate * scale
        b = z - product
        # In the lower tail both terms are large: b^2 / 2 + log Phi(b) is small, so -z^2 / 2 is taken alone.
        below = b < 0
        lower = -normal_ratio(torch.where(below, b, -1.0)).log() - _HALF_LOG_2_PI - z**2 / 2
        upper = product * (product / 2 - z) + log_ndtr(torch.where(below, 1.0, b))
        return (rate.log() + torch.where(below, lower, upper)).to(dtype)

    def cdf(self, value: Tensor) -> Tensor:
        """`P(X <= value) = Phi(z) - p(x) / rate`, to full relative precision in the lower tail."""
        if self._validate_args:
            self._validate_sample(value)
        dtype = torch.promote_types(value.dtype, self.loc.dtype)
        loc, scale, rate, x = (t.float() if t.dtype in HALF else t for t in (self.loc, self.scale, self.rate, value))
        z = ((x - loc) / scale).clamp(-_FAR, _FAR)
        product = rate * scale
        # F = Phi(z) (1 - exp(-gap)), and the gap is the integral of phi / Phi + t over [z - product, z]: no difference cancels.
        near = product < (1 + z.abs()) / 2
        width = torch.where(near, product, 0.0)
        gap = width * sum(weight * normal_excess(z - width * node) for node, weight in zip(_NODES, _WEIGHTS, strict=True))
        b = z - product
        ratio_b = normal_ratio(torch.where(b < 0, b, -1.0)).log()
        both = ratio_b - normal_ratio(torch.where(z < 0, z, -1.0)).log()
        above = torch.where(z < 0, 1.0, z)
        between = ratio_b + _HALF_LOG_2_PI + log_ndtr(above) + above**2 / 2
        neither = log_ndtr(above) - log_ndtr(torch.where(b < 0, 1.0, b)) + product * (above - product / 2)
        gap = torch.where(near, gap, torch.where(z < 0, both, torch.where(b < 0, between, neither)))
        return (-torch.exp(log_ndtr(z)) * torch.expm1(-gap)).to(dtype)

    @property
    def mean(self) -> Tensor:
        return self.loc + 1 / self.rate

    @property
    def variance(self) -> Tensor:
        return self.scale**2 + 1 / self.rate**2


@path.register
def exponentially_modified_normal_path(d: ExponentiallyModifiedNormal) -> Path:
    """`x = loc + scale * z + e / rate`, with the exponential variable `e` as the hazard of a second normal one.

    Explicit, with two values of noise for each draw and so without an inverse: cheaper than a quantile, and exact in every slope.
    """
    loc, scale, rate = d.loc, d.scale, d.rate

    def push(eps: Tensor) -> Tensor:
        return loc + scale * eps[..., 0] + hazard_from_normal(eps[..., 1]) / rate

    return Path(noise_like(loc, NORMAL, loc.shape + torch.Size([2])), push)
