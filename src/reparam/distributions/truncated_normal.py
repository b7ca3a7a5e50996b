"""A normal law in a window, right however far out or narrow the window is.

With the mode `m`, the point of the window nearest to `loc`, and `t = (x - m) / scale`, the density is that of

    exp(-s |t| - t^2 / 2),   low <= x <= high,   s = |m - loc| / scale,

and everything is made of its moments on either side of the mode: sums of positive terms, where nothing cancels. In a window around
`loc` that is narrower than a deviation `m` is the lower end and `s = (low - loc) / scale`, since a small change of `loc` moves
nothing there, and as the origin it would move everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL, readable, reflect_exponential
from reparam.paths.path import Path, noise_like, path
from reparam.special.slopes import with_slopes

__all__ = ["TruncatedNormal"]

# Gauss-Legendre rules on the unit interval. The long one integrates exp(-40 v) to rounding, the short one exp(-v).
_LONG, _SHORT = (tuple(zip(*((1 + x) / 2, w / 2), strict=True)) for x, w in map(np.polynomial.legendre.leggauss, (24, 6)))
# What lies farther from the mode than this many deviations, or exponents beyond it, is below the rounding of the rest.
_FAR = 40.0


def _moment(k: int, d: Tensor, s: Tensor) -> Tensor:
    """`∫_0^d v^k exp(-s v - v^2/2) dv` to full relative precision, for `0 <= d <= 40` and `s > -1`."""
    with torch.no_grad():
        end = torch.minimum(d, 2 * _FAR / (s + torch.hypot(s, torch.full_like(s, math.sqrt(2 * _FAR)))))
        value = _integral(_LONG, k, end, s)
    if not torch.is_grad_enabled():
        return value
    return with_slopes(value, lambda _, d, s: (d**k * torch.exp(-_exponent(d, s)), -_moment(k + 1, d, s)), d, s)


def _integral(rule: tuple[tuple[float, float], ...], k: int, d: Tensor, s: Tensor) -> Tensor:
    total = torch.zeros_like(d + s)
    for node, weight in rule:
        v = node * d
        total = total + weight * v**k * torch.exp(-_exponent(v, s))
    return d * total


def _exponent(v: Tensor, s: Tensor) -> Tensor:
    return v * (s + v / 2)


@dataclass(frozen=True)
class _Window:
    """The law of `t`, `exp(-s |t| - t^2/2)` on `[-below, above]`: both are not negative, and one is zero where `s` is not.

    Attributes:
        origin: the `x` where `t` is zero, as a rule the mode.
        s: how fast the density falls from there; where it is the lower end of a narrow window, above -1.
        below: from the origin to the lower end, in standard deviations, at most 40.
        above: from the origin to the upper end.
    """

    origin: Tensor
    s: Tensor
    below: Tensor
    above: Tensor

    def moments(self, k: int) -> tuple[Tensor, Tensor]:
        """The integrals of `|t|^k exp(-s |t| - t^2/2)` below and above the mode."""
        return _moment(k, self.below, self.s), _moment(k, self.above, self.s)

    def mean(self, k: int) -> Tensor:
        """The mean of `|t|^k`."""
        below, above = self.moments(k)
        return (below + above) / self.mass

    @property
    def mass(self) -> Tensor:
        """The integral of the density."""
        below, above = self.moments(0)
        return below + above

    @property
    def shift(self) -> Tensor:
        """The mean of `t`."""
        below, above = self.moments(1)
        return (above - below) / self.mass

    def split(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The log of the mass beyond `t`, seen from the mode, and the mass on the mode's side of it; the log of both."""
        up = t >= 0
        here, there = torch.where(up, self.above, self.below), torch.where(up, self.below, self.above)
        d = torch.minimum(t.abs(), here)
        beyond = torch.log(_moment(0, here - d, self.s + d)) - _exponent(d, self.s)
        return beyond, _moment(0, d, self.s) + _moment(0, there, self.s), torch.log(self.mass)


class TruncatedNormal(Univariate):
    """A normal law, given that it falls between two bounds.

    `p(x) = exp(-((x - loc) / scale)^2 / 2) / Z` for `low <= x <= high`. Far in a tail `x` is computed from the bound on, and
    so are the moments and the density: a window at 40 or at a million standard deviations loses nothing.

    Args:
        loc: mean of the normal law before it is truncated.
        scale: its standard deviation.
        low: the lower bound; minus infinity or None for none.
        high: the upper bound; infinity or None for none.

    Raises:
        ValueError: when a lower bound is not below its upper one.

    Source: Johnson, Kotz & Balakrishnan (1994), "Continuous Univariate Distributions", vol. 1, ch. 13.10.

    Example:
        >>> import torch
        >>> d = TruncatedNormal(torch.tensor(0.0), 1.0, 40.0, 41.0)
        >>> d.mean
        tensor(40.0250)
        >>> x = d.rsample((1000,))
        >>> bool(((40 <= x) & (x <= 41)).all())
        True
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        low: Tensor | float | None = None,
        high: Tensor | float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.loc: Tensor
        self.scale: Tensor
        self.low: Tensor
        self.high: Tensor
        low, high = -math.inf if low is None else low, math.inf if high is None else high
        self._set(validate_args, loc=loc, scale=scale, low=low, high=high)
        if self._validate_args and readable(self.low) and readable(self.high) and not (self.low < self.high).all():
            bad = ~(self.low < self.high)
            low, high = self.low[bad][0].item(), self.high[bad][0].item()
            raise ValueError(f"TruncatedNormal: low is {low} and high is {high}; low must lie below high")

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> constraints.Constraint:
        return constraints.interval(self.low, self.high)

    def expand(self, batch_shape: Any, _instance: Any = None) -> TruncatedNormal:
        new = super().expand(batch_shape, _instance)
        # Bounds may be infinite, so they are not among the constrained parameters, which samples need finite.
        new.low, new.high = self.low.expand(batch_shape), self.high.expand(batch_shape)
        return new

    def _window(self) -> _Window:
        left = self.high < self.loc
        right = (self.low > self.loc) | (~left & (self.high - self.low < self.scale))
        origin = torch.where(right, self.low, torch.where(left, self.high, self.loc))
        s = torch.where(right, self.low - self.loc, torch.where(left, self.loc - self.high, 0.0)) / self.scale
        below, above = self._distance(origin - self.low), self._distance(self.high - origin)
        return _Window(origin, s, torch.where(right, 0.0, below), torch.where(left, 0.0, above))

    def _distance(self, length: Tensor) -> Tensor:
        # A finite number in place of an infinite one: its derivatives would be NaN.
        far = length.detach() > _FAR * self.scale.detach()
        return torch.where(far, _FAR, torch.where(far, 0.0, length) / self.scale)

    @property
    def mode(self) -> Tensor:
        return torch.where(self.low > self.loc, self.low, torch.where(self.high < self.loc, self.high, self.loc))

    @property
    def mean(self) -> Tensor:
        w = self._window()
        return w.origin + self.scale * w.shift

    @property
    def variance(self) -> Tensor:
        w = self._window()
        return self.scale**2 * (w.mean(2) - w.shift**2)

    def entropy(self) -> Tensor:
        w = self._window()
        return torch.log(w.mass) + self.scale.log() + w.s * w.mean(1) + w.mean(2) / 2

    def _inner(self, value: Tensor) -> Tensor:
        return self.mode.detach().expand_as(value + self.loc)

    def _log_density(self, x: Tensor) -> Tensor:
        w = self._window()
        t = (x - w.origin) / self.scale
        return -_exponent(t.abs(), w.s) - torch.log(w.mass) - self.scale.log()


@path.register
def truncated_normal_path(d: TruncatedNormal) -> Path:
    """`x = origin + scale * t`, `P(T > t) = exp(-eps)` for the density `exp(-s |t| - t^2/2)` of `t` in the window."""
    w, scale = d._window(), d.scale

    def push(eps: Tensor) -> Tensor:
        with torch.no_grad():
            t = _quantile(eps, w)
        x = w.origin + scale * with_slopes(t, _slopes, eps, w.s, w.below, w.above)
        fixed = x.detach()
        return x + (torch.maximum(torch.minimum(fixed, d.high), d.low).detach() - fixed)

    def pull(x: Tensor) -> Tensor:
        t = (x - w.origin) / scale
        beyond, within, total = w.split(t)
        # -log of the mass beyond t over that within, from whichever is the smaller.
        less = beyond < torch.log(within)
        far = torch.where(less, total - beyond, reflect_exponential(total - torch.log(within)))
        return torch.where(t >= 0, far, reflect_exponential(far))

    return Path(noise_like(scale, EXPONENTIAL), push, pull)


def _quantile(eps: Tensor, w: _Window) -> Tensor:
    """The `t` with `P(T > t) = exp(-eps)`."""
    p, q = torch.exp(-eps), -torch.expm1(-eps)
    below, above = w.moments(0)
    target = q * above - p * below  # the integral from the mode to t
    up = target >= 0
    peak = math.sqrt(math.pi / 2) * torch.special.erfcx(w.s / math.sqrt(2.0))  # the integral from the mode to infinity
    # The mass beyond t, had the window no end: what lies beyond the end among it.
    beyond = (
        torch.where(up, q * _outside(w.above, w.s) + p * (peak + below), p * _outside(w.below, w.s) + q * (peak + above)) / peak
    )
    share = target.abs() / peak
    near = share < 0.5
    hazard = torch.where(near, -torch.log1p(-torch.where(near, share, 0.5)), -torch.log(torch.where(near, 0.5, beyond)))
    # The hazard of t is s t + t^2/2 + log R(s) - log R(s + t), R Mills' ratio: convex, and bent by 2/pi at least, so that
    # Newton's steps fall to the root from this start.
    slope = peak.reciprocal()
    t = 2 * hazard / (slope + torch.hypot(slope, torch.sqrt(4 / math.pi * hazard)))
    for _ in range(5):
        scaled = torch.special.erfcx((w.s + t) / math.sqrt(2.0)) * math.sqrt(math.pi / 2)
        t = (t - scaled * (_exponent(t, w.s) + torch.log(peak / scaled) - hazard)).clamp(min=0.0)
    # Close to the mode only the integral itself has relative precision.
    close = torch.where(near, t, 0.0)
    close = close - (_integral(_SHORT, 0, close, w.s) - target.abs()) * torch.exp(_exponent(close, w.s))
    t = torch.where(near, close, t)
    return torch.where(up, torch.minimum(t, w.above), -torch.minimum(t, w.below))


def _outside(d: Tensor, s: Tensor) -> Tensor:
    """`∫_d^inf exp(-s v - v^2/2) dv`."""
    return torch.where(d < _FAR, torch.exp(-_exponent(d, s)) * _moment(0, torch.full_like(d, _FAR), s + d), 0.0)


def _slopes(t: Tensor, eps: Tensor, s: Tensor, below: Tensor, above: Tensor) -> tuple[Tensor, ...]:
    """Of the quantile: `-(dF/d parameter) / p`, from the side of `t` that has less mass."""
    w = _Window(t, s, below, above)
    log_q, log_mass, here = -reflect_exponential(eps), torch.log(w.mass), _exponent(t.abs(), s)
    over, under = log_mass - eps + here, log_mass + log_q + here  # log of the mass on either side, by the density
    # The density depends on s where the window has no room on one side of the mode: there t is on the other.
    up = above > 0
    d = torch.where(up & (below > 0), 0.0, t.abs())
    near, far = torch.where(up, under, over), torch.where(up, over, under)
    less, mean = near < far, w.mean(1)
    first = _moment(1, torch.where(less, d, torch.maximum(below, above) - d), torch.where(less, s, s + d))
    by_s = torch.where(less, first * torch.exp(torch.where(less, here, 0.0)), -first)
    by_s = by_s + torch.where(less, -mean, mean - d) * torch.exp(torch.minimum(near, far))
    return (
        torch.exp(over),
        torch.where(up, by_s, -by_s),
        -torch.exp(here - eps - _exponent(below, s)),
        torch.exp(here + log_q - _exponent(above, s)),
    )


@register_kl(TruncatedNormal, TruncatedNormal)  # type: ignore[untyped-decorator]
def _kl(p: TruncatedNormal, q: TruncatedNormal) -> Tensor:
    """Infinite where the window of `p` reaches beyond that of `q`."""
    v, w = p._window(), q._window()
    # In standard deviations of q from its mode; where that is an end of the window, all values lie on one side of it.
    ratio, shift = p.scale / q.scale, (v.origin - w.origin) / q.scale
    first = shift + ratio * v.shift
    second = shift**2 + ratio**2 * v.mean(2) + 2 * shift * (first - shift)
    cost = w.s * first.abs() + second / 2 + torch.log(w.mass) + q.scale.log()
    return torch.where((p.low < q.low) | (p.high > q.high), torch.inf, cost - p.entropy())
