"""Laws of integers: differences of the cost between neighbours, averaged over slices of the law."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Binomial, Distribution, Geometric, NegativeBinomial, Poisson
from torch.nn.functional import logsigmoid, softplus

from reparam.estimators.estimator import Draw
from reparam.estimators.measure import draw_jumps, weigh_jumps
from reparam.estimators.weak import Drawn, Jump, Weak, both, given, one, weak_derivatives
from reparam.noise import EXPONENTIAL, UNIFORM, Source, readable
from reparam.paths.path import is_discrete

__all__ = ["StochasticTriple"]


@dataclass(frozen=True)
class StochasticTriple:
    """The rate at which a parameter makes a discrete law jump, times the change of the cost: ∂E[f]/∂θ = E[w (f(z) − f(y))].

    For Bernoulli, Categorical, OneHotCategorical, Poisson, Binomial, Geometric and NegativeBinomial laws (its total count too), and
    Independent of these. Counts change by one, with a constant weight:

        Poisson(λ)              E[f(Y + 1) − f(Y)],              Y ~ Poisson(λ)
        Binomial(k, p)          k E[f(Y + 1) − f(Y)],            Y ~ Binomial(k − 1, p)
        Geometric(p)            −1/p² E[f(Y + 1) − f(Y)],        Y ~ NegativeBinomial(2, 1 − p)
        NegativeBinomial(r, p)  r/(1 − p)² E[f(Y + 1) − f(Y)],   Y ~ NegativeBinomial(r + 1, p)
              in r              −log(1 − p) E[f(X + J) − f(X)],  P(J = j) ∝ p^j/j

    Given a level, uniform below the probability of Y, Y is uniform on a slice: the counts low … high of at least that probability.
    The mean difference over it, (f(high + 1) − f(low))/(high + 1 − low), takes the place of the one at Y. A linear cost has
    no variance, a smooth one little, as the slices lie around one mode; and a step of the cost, which a change by one would seldom
    meet among many counts, is met.

    Of an event of several components, one moves in each sample, chosen by its weight, and as evenly over the samples as can be:
    each of `n` samples takes three rows however many there are (two for coins, K for K categories). Unbiased; first derivatives
    only.

    Args:
        slices: whether differences are averaged over slices; without, each sample takes two rows, as in `MeasureValued`.
        every: whether every component moves, one after the other in rows of their own (1 + 2 D instead of 3), which has less
            variance for the same number of rows where the cost depends on many of them.

    Raises:
        NotImplementedError: for a continuous law, or one whose jumps are not known.
        ValueError: for a cost that has summed batch dimensions, whose elements are moved all at once.

    Source: Arya et al., arXiv:2210.08572; Fu and Hu (1997), "Conditional Monte Carlo".

    Example:
        >>> import torch, reparam as rp
        >>> rate = torch.tensor(3.0, requires_grad=True)
        >>> rp.expect(lambda z: 2 * z, torch.distributions.Poisson(rate), estimator=rp.StochasticTriple()).backward()
        >>> torch.allclose(rate.grad, torch.tensor(2.0))
        True
    """

    slices: bool = True
    every: bool = False
    bias: ClassVar[str | None] = None

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        if not is_discrete(q):
            raise NotImplementedError(
                f"StochasticTriple is for laws of integers and choices, {type(q).__name__} is continuous: use rp.Pathwise(), or "
                "rp.MeasureValued() for a cost with steps"
            )
        return draw_jumps(q, n, source, _sliced if self.slices else weak_derivatives, choose=not self.every)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return weigh_jumps(draw, cost)


@dataclass(frozen=True)
class _Differences:
    """A derivative that is a weight times E[f(Y + 1) − f(Y)].

    Attributes:
        weight: of the shape of the batch.
        before: draws Y jointly with X.
        log_mass: of a count under the law of Y, up to a constant, in float64; it rises up to `mode` and falls beyond.
        mode, deviation: of Y, the latter roughly.
        largest: the largest value of X, where there is one.
    """

    weight: Tensor
    before: Callable[[Drawn], Tensor]
    log_mass: Callable[[Tensor], Tensor]
    mode: Tensor
    deviation: Tensor
    largest: float | Tensor = math.inf

    def jump(self, at: Drawn) -> Jump:
        y, mode = self.before(at).double(), self.mode.double()
        level = self._mass(y) - at.noise(EXPONENTIAL)
        # Noise ends near 37, and a log-concave mass falls by one within a deviation or so: no slice is wider.
        widest = (96 * (1 + self.deviation)).clamp(max=2.0**40)
        low = self._farthest(torch.minimum(y, mode), level, -1, torch.minimum(widest, mode + 1))
        end = self._farthest(torch.maximum(y, mode), level, +1, widest) + 1
        weight = self.weight.double() / (end - low).clamp(min=1)
        end = end.clamp(max=self.largest)
        jump = both(end.to(at.x.dtype), low.to(at.x.dtype), weight.to(at.x.dtype))
        return replace(jump, power=self.weight.to(at.x.dtype))

    def _mass(self, k: Tensor) -> Tensor:
        return torch.where(k < 0, -math.inf, self.log_mass(k.clamp(min=0)))

    def _farthest(self, k: Tensor, level: Tensor, way: int, within: Tensor) -> Tensor:
        """The last count from k on, this way, of which the mass is at least the level."""
        known = within.numel() > 0 and readable(within)
        for bit in reversed(range(int(within.max()).bit_length() if known else 40)):
            further = k + way * 2.0**bit
            k = torch.where(self._mass(further) >= level, further, k)
        return k


@singledispatch
def _differences(d: Distribution) -> _Differences | None:
    return None


def _sliced(d: Distribution) -> list[Weak]:
    """The weak derivatives, with slices for the first parameter of a law of counts."""
    (parameter, jump), *others = weak_derivatives(d)
    differences = _differences(d)
    return [(parameter, jump if differences is None else differences.jump), *others]


def _times(k: Tensor, log_p: Tensor) -> Tensor:
    return torch.where(k == 0, 0.0, k * log_p)


@_differences.register
def _(d: Poisson) -> _Differences:
    rate = d.rate.double()
    return _Differences(
        torch.ones_like(rate),
        lambda at: at.x,
        lambda k: _times(k, rate.log()) - torch.lgamma(k + 1),
        rate.floor(),
        rate.sqrt(),
    )


def _trial(d: Binomial, at: Drawn) -> Tensor:
    """How one of the trials came out: as one with probability x/k."""
    return at.noise(UNIFORM) * d.total_count < at.x


def _binomial_slope(d: Binomial) -> Tensor:
    parameter, is_probs = given(d)
    return d.total_count if is_probs else d.total_count * parameter.sigmoid() * (-parameter).sigmoid()


@weak_derivatives.register
def _(d: Binomial) -> list[Weak]:
    def jump(at: Drawn) -> Jump:
        """One of the trials comes out otherwise."""
        down, weight = _trial(d, at), _binomial_slope(d)
        return one(torch.where(down, at.x - 1, (at.x + 1).minimum(d.total_count)), torch.where(down, -weight, weight))

    return [(given(d)[0], jump), (d.total_count, "the total count is an integer and has no gradient: detach it")]


@_differences.register
def _(d: Binomial) -> _Differences:
    parameter, is_probs = given(d)
    given_ = parameter.double()
    log_p, log_q = (given_.log(), torch.log1p(-given_)) if is_probs else (logsigmoid(given_), logsigmoid(-given_))
    others = (d.total_count.double() - 1).clamp(min=0)

    def log_mass(k: Tensor) -> Tensor:
        left = (others - k).clamp(min=0)
        mass = _times(k, log_p) + _times(left, log_q) - torch.lgamma(k + 1) - torch.lgamma(left + 1)
        return torch.where(k > others, -math.inf, mass)

    return _Differences(
        _binomial_slope(d),
        lambda at: at.x - _trial(d, at).to(at.x.dtype),
        log_mass,
        ((others + 1) * log_p.exp()).floor().minimum(others),
        (others * log_p.exp() * log_q.exp()).sqrt(),
        d.total_count,
    )


@dataclass(frozen=True)
class _Waiting:
    """A sum of r geometric waiting times: its derivative is weight E[f(Y + 1) − f(X)] = weight/stop E[f(Y + 1) − f(Y)].

    Here Y = X + one more waiting time; with probability 1 − stop = exp(−rate) a waiting time goes on.
    """

    parameter: Tensor
    r: Tensor
    rate: Tensor
    stop: Tensor
    weight: Tensor

    def later(self, at: Drawn) -> Tensor:
        return at.x + (at.noise(EXPONENTIAL) / self.rate).floor()

    def jump(self, at: Drawn) -> Jump:
        return one(self.later(at) + 1, self.weight)

    def differences(self) -> _Differences:
        r, rate, stop = self.r.double(), self.rate.double(), self.stop.double()
        on = torch.exp(-rate)
        return _Differences(
            self.weight / self.stop,
            self.later,
            lambda k: torch.lgamma(k + r + 1) - torch.lgamma(k + 1) - _times(k, rate),
            (r * on / stop).floor(),
            ((r + 1) * on).sqrt() / stop,
        )


def _geometric(d: Geometric) -> _Waiting:
    p, is_probs = given(d)
    r = torch.ones_like(p)
    if is_probs:
        return _Waiting(p, r, -torch.log1p(-p), p, -1 / p)
    return _Waiting(p, r, softplus(p), p.sigmoid(), -(-p).sigmoid())


def _negative_binomial(d: NegativeBinomial) -> _Waiting:
    p, is_probs = given(d)
    r = d.total_count
    if is_probs:
        return _Waiting(p, r, -p.log(), 1 - p, r / (1 - p))
    return _Waiting(p, r, softplus(-p), (-p).sigmoid(), r * p.sigmoid())


@weak_derivatives.register
def _(d: Geometric) -> list[Weak]:
    law = _geometric(d)
    return [(law.parameter, law.jump)]


@_differences.register
def _(d: Geometric) -> _Differences:
    return _geometric(d).differences()


@weak_derivatives.register
def _(d: NegativeBinomial) -> list[Weak]:
    law = _negative_binomial(d)
    p, is_probs = given(d)

    def total_count(at: Drawn) -> Jump:
        """A compound Poisson law, whose jumps are logarithmic: geometric, of the probability 1 − (1 − p)^u of going on."""
        intensity = -torch.log1p(-p) if is_probs else softplus(p)
        on = -torch.expm1(-intensity * at.noise(UNIFORM))
        return one(at.x + 1 + (at.noise(EXPONENTIAL) / -on.log()).floor(), intensity)

    return [(law.parameter, law.jump), (d.total_count, total_count)]


@_differences.register
def _(d: NegativeBinomial) -> _Differences:
    return _negative_binomial(d).differences()
