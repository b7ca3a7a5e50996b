"""Stochastic triples: a sample, another one, and the rate at which a parameter turns one into the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Binomial, Distribution, Geometric, NegativeBinomial
from torch.nn.functional import softplus

from reparam.estimators.estimator import Draw
from reparam.estimators.measure import draw_jumps, weigh_jumps
from reparam.estimators.weak import Drawn, Jump, Weak, both, given, one, weak_derivatives
from reparam.noise import EXPONENTIAL, UNIFORM, Source
from reparam.paths.path import is_discrete

__all__ = ["StochasticTriple"]


@dataclass(frozen=True)
class StochasticTriple:
    """The rate at which a parameter makes a discrete law jump, times the change of the cost: ∂E[f]/∂θ = E[w (f(z) − f(y))].

    For Bernoulli, Categorical, OneHotCategorical, Poisson, Binomial, Geometric and NegativeBinomial laws (its total count too), and
    Independent of these. Counts jump by one, and of constant weight, so that a linear cost has no variance:

        Poisson(λ)              E[f(X + 1) − f(X)]
        Binomial(k, p)          k E[f(Y + 1) − f(Y)],            Y ~ Binomial(k − 1, p)
        Geometric(p)            −1/p² E[f(Y + 1) − f(Y)],        Y ~ NegativeBinomial(2, 1 − p)
        NegativeBinomial(r, p)  r/(1 − p)² E[f(Y + 1) − f(Y)],   Y ~ NegativeBinomial(r + 1, p)
              in r              −log(1 − p) E[f(X + J) − f(X)],  P(J = j) ∝ p^j/j

    A jump by one rarely meets a step of the cost among many counts: `MeasureValued` jumps further in the last two laws, and
    `LeaveOneOut` is better for a step at a large rate.

    Of an event of several components, one moves in each sample, chosen by its weight: each of `n` samples takes two rows however
    many there are (three for Geometric and NegativeBinomial, K for K categories). `MeasureValued` moves all of them in turn.
    Unbiased; first derivatives only.

    Raises:
        NotImplementedError: for a continuous law, or one whose jumps are not known.
        ValueError: for a cost that has summed batch dimensions, whose elements are moved all at once.

    Source: Arya et al., arXiv:2210.08572; Fu and Hu (1997), "Conditional Monte Carlo".

    Example:
        >>> import torch, reparam as rp
        >>> rate = torch.tensor(3.0, requires_grad=True)
        >>> rp.expect(lambda z: 2 * z, torch.distributions.Poisson(rate), estimator=rp.StochasticTriple()).backward()
        >>> rate.grad
        tensor(2.)
    """

    bias: ClassVar[str | None] = None

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        if not is_discrete(q):
            raise NotImplementedError(
                f"StochasticTriple is for laws of integers and choices, {type(q).__name__} is continuous: use rp.Pathwise(), or "
                "rp.MeasureValued() for a cost with steps"
            )
        return draw_jumps(q, n, source, _nearest, choose=True)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return weigh_jumps(draw, cost)


@singledispatch
def _nearest(d: Distribution) -> list[Weak]:
    """Weak derivatives of which a jump is as short as may be."""
    return weak_derivatives(d)


@weak_derivatives.register
def _(d: Binomial) -> list[Weak]:
    parameter, is_probs = given(d)
    k = d.total_count

    def jump(at: Drawn) -> Jump:
        """One of the k trials, which came out as one with probability x/k, comes out otherwise."""
        down = at.noise(UNIFORM) * k < at.x
        weight = k if is_probs else k * parameter.sigmoid() * (-parameter).sigmoid()
        return one(torch.where(down, at.x - 1, (at.x + 1).minimum(k)), torch.where(down, -weight, weight))

    return [(parameter, jump), (k, "an integer without gradient, total_count.detach()")]


@dataclass(frozen=True)
class _Waiting:
    """A law of which a derivative is a multiple of that of one more waiting time, of the probability 1 − stop of going on.

    With Y = X + another waiting time, the derivative is weight E[f(Y + 1) − f(X)] = weight/stop E[f(Y + 1) − f(Y)].
    """

    parameter: Tensor
    rate: Tensor  # -log(1 - stop)
    stop: Tensor
    weight: Tensor

    def later(self, at: Drawn) -> Tensor:
        return at.x + (at.noise(EXPONENTIAL) / self.rate).floor()

    def far(self, at: Drawn) -> Jump:
        return one(self.later(at) + 1, self.weight)

    def near(self, at: Drawn) -> Jump:
        y = self.later(at)
        return both(y + 1, y, self.weight / self.stop)


def _geometric(d: Geometric) -> _Waiting:
    p, is_probs = given(d)
    if is_probs:
        return _Waiting(p, -torch.log1p(-p), p, -1 / p)
    return _Waiting(p, softplus(p), p.sigmoid(), -(-p).sigmoid())


def _negative_binomial(d: NegativeBinomial) -> _Waiting:
    p, is_probs = given(d)
    if is_probs:
        return _Waiting(p, -p.log(), 1 - p, d.total_count / (1 - p))
    return _Waiting(p, softplus(-p), (-p).sigmoid(), d.total_count * p.sigmoid())


def _total_count(d: NegativeBinomial) -> Weak:
    p, is_probs = given(d)

    def jump(at: Drawn) -> Jump:
        """A compound Poisson law, whose jumps are logarithmic: geometric, of the probability 1 − (1 − p)^u of going on."""
        intensity = -torch.log1p(-p) if is_probs else softplus(p)
        on = -torch.expm1(-intensity * at.noise(UNIFORM))
        return one(at.x + 1 + (at.noise(EXPONENTIAL) / -on.log()).floor(), intensity)

    return d.total_count, jump


@weak_derivatives.register
def _(d: Geometric) -> list[Weak]:
    law = _geometric(d)
    return [(law.parameter, law.far)]


@_nearest.register
def _(d: Geometric) -> list[Weak]:
    law = _geometric(d)
    return [(law.parameter, law.near)]


@weak_derivatives.register
def _(d: NegativeBinomial) -> list[Weak]:
    law = _negative_binomial(d)
    return [(law.parameter, law.far), _total_count(d)]


@_nearest.register
def _(d: NegativeBinomial) -> list[Weak]:
    law = _negative_binomial(d)
    return [(law.parameter, law.near), _total_count(d)]
