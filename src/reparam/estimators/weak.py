"""Weak derivatives: the derivative of a law in a parameter, as differences of the cost at other values of one component."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Exponential,
    Gamma,
    Laplace,
    Normal,
    Poisson,
    Uniform,
    Weibull,
)

from reparam.noise import EXPONENTIAL, Kind, Noise, Source
from reparam.paths.gamma import exp_as
from reparam.special.gamma import log_gamma_density, log_gamma_slope

__all__ = ["Drawn", "Jump", "Weak", "both", "given", "one", "weak_derivatives"]


@dataclass(frozen=True)
class Jump:
    """Other values z of a component than the x that was drawn: ∂E[f(x)]/∂θ = E[Σ_m weight_m (f(z_m) − f(x))].

    Attributes:
        z: `m + rows + batch`.
        weight: of each difference, broadcasting to `z`.
        into: where θ has one dimension more, `batch + (K,)`: the entry that each difference belongs to, of the shape of `z`.
        chance: where the jumps lead to all other values there are, the probability of each, of the shape of `z`; the cost's mean
            over the component is then exact.
        power: by which a component is chosen where only one moves, of the shape of the batch; the size of the weights by default.
    """

    z: Tensor
    weight: Tensor
    into: Tensor | None = None
    chance: Tensor | None = None
    power: Tensor | None = None


@dataclass(frozen=True)
class Drawn:
    """What jumps start from.

    Attributes:
        x: samples of the law, `rows + batch`.
        other: samples from which the second part of a coupled pair is made: `x` itself, or others where it is not to be coupled.
        coupled: whether it is.
        source: of noise.
    """

    x: Tensor
    other: Tensor
    coupled: bool
    source: Source | None

    def noise(self, kind: Kind) -> Tensor:
        """Noise of the shape of `x`, independent of what was drawn before."""
        return Noise(kind, self.x.shape[1:], self.x.dtype, self.x.device).draw(self.x.shape[:1], source=self.source)

    def pair(self, kind: Kind) -> tuple[Tensor, Tensor]:
        """Noise for two parts: twice the same where they are coupled."""
        first = self.noise(kind)
        return first, first if self.coupled else self.noise(kind)


Weak = tuple[Tensor, Callable[[Drawn], Jump] | str]
"""A parameter, `batch` or `batch + (K,)`, with its jumps, or with the reason why there are none."""


@singledispatch
def weak_derivatives(d: Distribution) -> list[Weak]:
    """The parameters of a univariate law, each with its weak derivative: what `MeasureValued` draws.

    Register it for a class of your own. Jumps are computed without gradient; a pair of positive and negative part, none of which
    is x, is two jumps with weights c and −c.

    Raises:
        NotImplementedError: for a class that none is registered for.

    Source: Pflug (1989); Mohamed et al., arXiv:1906.10652, section 6.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import HalfNormal
        >>> from reparam.estimators.weak import Jump, weak_derivatives
        >>> @weak_derivatives.register
        ... def _(d: HalfNormal):
        ...     def scale(at):                           # Maxwell minus half-normal, divided by the scale
        ...         z = (at.other**2 + 2 * d.scale**2 * at.noise(rp.noise.EXPONENTIAL)).sqrt()
        ...         return Jump(z[None], 1 / d.scale)
        ...     return [(d.scale, scale)]
        >>> scale = torch.tensor(2.0, requires_grad=True)
        >>> rp.expect(lambda x: (x > 1).float(), HalfNormal(scale), estimator=rp.MeasureValued(), n=100).backward()
        >>> bool(scale.grad > 0)
        True
    """
    raise NotImplementedError(
        f"no weak derivative of {type(d).__name__} is known: use rp.LeaveOneOut() with n=2 or more, or rp.Pathwise() where the "
        "cost is smooth; or register one with reparam.estimators.weak.weak_derivatives.register"
    )


def given(d: Distribution) -> tuple[Tensor, bool]:
    """What a law of coins or counts was made of, and whether that is a probability rather than a logit."""
    held = vars(d)
    probs = held.get("probs")
    parameter = held.get("_param", probs)
    return (held["logits"], False) if parameter is None else (parameter, parameter is probs)


_NONE = "no weak derivative in the concentration is known: use rp.Pathwise() where the cost is smooth, or rp.LeaveOneOut()"


@weak_derivatives.register
def _(d: Normal) -> list[Weak]:
    loc_, scale_ = d.loc, d.scale

    def loc(at: Drawn) -> Jump:
        """Two Rayleigh laws, back to back: loc ± scale √(2E)."""
        up, down = (scale_ * (2 * e).sqrt() for e in at.pair(EXPONENTIAL))
        weight = 1 / (scale_ * math.sqrt(2 * math.pi))
        return both(loc_ + up, loc_ - down, weight)

    def scale(at: Drawn) -> Jump:
        """Double-sided Maxwell minus normal: a Maxwell variable is a normal one with √(2E) added at a right angle."""
        off = (at.other - loc_) / scale_
        far = torch.copysign((off**2 + 2 * at.noise(EXPONENTIAL)).sqrt(), off)
        return one(loc_ + scale_ * far, 1 / scale_)

    return [(d.loc, loc), (d.scale, scale)]


@weak_derivatives.register
def _(d: Laplace) -> list[Weak]:
    def loc(at: Drawn) -> Jump:
        up, down = (d.scale * e for e in at.pair(EXPONENTIAL))
        return both(d.loc + up, d.loc - down, 0.5 / d.scale)

    def scale(at: Drawn) -> Jump:
        """Double-sided Gamma(2) minus Laplace."""
        return one(at.other + torch.copysign(d.scale * at.noise(EXPONENTIAL), at.other - d.loc), 1 / d.scale)

    return [(d.loc, loc), (d.scale, scale)]


@weak_derivatives.register
def _(d: Exponential) -> list[Weak]:
    def rate(at: Drawn) -> Jump:
        """Exponential minus Gamma(2)."""
        return one(at.other + at.noise(EXPONENTIAL) / d.rate, -1 / d.rate)

    return [(d.rate, rate)]


@weak_derivatives.register
def _(d: Gamma) -> list[Weak]:
    def rate(at: Drawn) -> Jump:
        """Gamma(a) minus Gamma(a + 1)."""
        return one(at.other + at.noise(EXPONENTIAL) / d.rate, -d.concentration / d.rate)

    def concentration(at: Drawn) -> Jump:
        """Above and below exp(ψ(a)), where the slope of the distribution function in a is the same."""
        a = d.concentration.double()
        peak = torch.digamma(a)
        weight = _log_slope(a, peak)
        up, down = at.pair(EXPONENTIAL)
        plus, minus = (_where_slope_is(a, peak, weight - e.double(), way) - d.rate.log() for e, way in ((up, 1), (down, -1)))
        return both(exp_as(plus, at.x.dtype), exp_as(minus, at.x.dtype), weight.exp().to(at.x.dtype))

    return [(d.rate, rate), (d.concentration, concentration)]


def _log_slope(a: Tensor, y: Tensor) -> Tensor:
    """log(−∂P(log X ≤ y)/∂a), X ~ Gamma(a, 1): concave, and greatest at ψ(a), where the derivative of the density in a is zero."""
    return log_gamma_slope(a, y).log() + log_gamma_density(a, y)


def _where_slope_is(a: Tensor, peak: Tensor, level: Tensor, way: int) -> Tensor:
    """Where `_log_slope` is at the level, above (+1) or below (−1) its peak: Newton's method, the derivative is (ψ − y)/slope."""
    fall = _log_slope(a, peak) - level
    y = peak + way * (2 * fall * log_gamma_slope(a, peak)).sqrt()
    if way > 0:  # a start that is not so far out that only the exponential is seen there
        y = torch.maximum(torch.minimum(y, torch.log(a + (2 * a * fall).sqrt() + fall + 6)), peak)
    for _ in range(14 if way > 0 else 8):
        slope = log_gamma_slope(a, y)
        step = (slope.log() + log_gamma_density(a, y) - level) * slope / (peak - y)
        further = y - step
        y = torch.where(way * (further - peak) > 0, further, (y + peak) / 2)
    return y


@weak_derivatives.register
def _(d: Weibull) -> list[Weak]:
    def scale(at: Drawn) -> Jump:
        """Of the exponential law that a power of x has."""
        power = (at.other / d.scale) ** d.concentration + at.noise(EXPONENTIAL)
        return one(d.scale * power ** (1 / d.concentration), d.concentration / d.scale)

    return [(d.scale, scale), (d.concentration, _NONE)]


@weak_derivatives.register
def _(d: Uniform) -> list[Weak]:
    def low(at: Drawn) -> Jump:
        return one(d.low.expand_as(at.x), -1 / (d.high - d.low))

    def high(at: Drawn) -> Jump:
        return one(d.high.expand_as(at.x), 1 / (d.high - d.low))

    return [(d.low, low), (d.high, high)]


@weak_derivatives.register
def _(d: Bernoulli) -> list[Weak]:
    parameter, is_probs = given(d)

    def jump(at: Drawn) -> Jump:
        p, q = (d.probs, 1 - d.probs) if is_probs else (d.logits.sigmoid(), (-d.logits).sigmoid())
        slope = 1.0 if is_probs else p * q
        return Jump((1 - at.x)[None], (slope * (1 - 2 * at.x))[None], chance=torch.where(at.x > 0, q, p)[None])

    return [(parameter, jump)]


@weak_derivatives.register
def _(d: Categorical) -> list[Weak]:
    def jump(at: Drawn) -> Jump:
        k = d.probs.shape[-1]
        steps = torch.arange(1, k, device=at.x.device).reshape(-1, *(1,) * at.x.dim())
        z = (at.x + steps) % k
        p = d.probs.expand(*at.x.shape, k).gather(-1, z.movedim(0, -1)).movedim(-1, 0)
        return Jump(z, torch.ones_like(p), into=z, chance=p)

    return [(d.probs, jump)]


@weak_derivatives.register
def _(d: Poisson) -> list[Weak]:
    return [(d.rate, lambda at: one(at.x + 1, torch.ones_like(d.rate)))]


def one(z: Tensor, weight: Tensor) -> Jump:
    """`weight (f(z) − f(x))`, with a weight that broadcasts to either."""
    return Jump(z[None], weight)


def both(plus: Tensor, minus: Tensor, weight: Tensor) -> Jump:
    """`weight (f(plus) − f(minus))`, with a weight that broadcasts to either."""
    weight = weight.expand_as(plus)
    return Jump(torch.stack([plus, minus]), torch.stack([weight, -weight]))
