"""Measure-valued estimators: the cost at the positive and at the negative part of the derivative of a law."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd.forward_ad import unpack_dual
from torch.distributions import Distribution, Independent, OneHotCategorical

from reparam.estimators.estimator import Draw
from reparam.estimators.support import is_one_of
from reparam.estimators.surrogate import first_order
from reparam.estimators.weak import Drawn, Jump, Weak, weak_derivatives
from reparam.noise import UNIFORM, Noise, Replay, Source
from reparam.paths import sample

__all__ = ["MeasureValued", "draw_jumps", "weigh_jumps"]


@dataclass(frozen=True)
class _Split:
    """The differences that belong to one parameter of a law of D components.

    Attributes:
        theta: the parameter, `batch + inner`, or that + (K,).
        jumps, sets: M other values of a component, in D sets of n rows, or in one where a component was chosen for each row.
        weight, chance, into: of `Jump`, each `M + n + batch + (D,)`.
        counts: how often a row's difference counts in each component, `n + batch + (D,)`: once, or, where one was chosen,
            one over the probability of the choice.
        share: by which the components make up the mean cost, likewise.
    """

    theta: Tensor
    jumps: int
    sets: int
    weight: Tensor
    chance: Tensor | None
    into: Tensor | None
    counts: Tensor
    share: Tensor


@dataclass(frozen=True)
class _Jumps(Draw):
    """Attributes: n: samples, the first rows; splits: of each parameter, whose rows follow."""

    n: int = 0
    splits: tuple[_Split, ...] | None = None


@dataclass(frozen=True)
class MeasureValued:
    """Differences of the cost between two laws: ∂E[f]/∂θ = c (E[f(z⁺)] − E[f(z⁻)]), for every parameter of every component.

    Unbiased whatever the cost: it may have steps, and is not differentiated in z. For Normal, Laplace, Exponential, Gamma, Uniform
    and Weibull laws (the last in its scale only), Bernoulli, Categorical, OneHotCategorical, Poisson, Binomial, Geometric,
    NegativeBinomial and Independent of these; for others once registered with `weak.weak_derivatives`.

    Each of `n` samples takes one row, and for each of the D components of an event one more (two for the loc of Normal and
    Laplace and the concentration of Gamma, K − 1 for K categories) for each parameter that needs a gradient:
    n (1 + 3 D) rows for Normal. In these all other components are as in the sample. First derivatives only. In float32 counts
    above 2^24 have no neighbour to jump to: use float64 for these, or `StochasticTriple`, which jumps further.

    Args:
        coupled: whether the two parts of a continuous law share their noise, which is mostly better: close to each other, they
            differ by little. Those of other laws always do.

    Raises:
        NotImplementedError: for a law or a parameter that none is known for.
        ValueError: for a cost that has summed batch dimensions, whose elements are moved all at once.

    Source: Pflug (1989); Mohamed et al., arXiv:1906.10652; Rosca et al. (2019), "Measure-valued derivatives for approximate
    Bayesian inference"; for categories, Titsias and Lázaro-Gredilla (2015), "Local expectation gradients".

    Example:
        >>> import torch, reparam as rp
        >>> mu = torch.zeros(3, requires_grad=True)
        >>> q = torch.distributions.Normal(mu, 1.0)
        >>> rp.expect(lambda z: (z > 0.5).float(), q, estimator=rp.MeasureValued(), n=64).sum().backward()
        >>> bool((mu.grad > 0).all())
        True
    """

    coupled: bool = True
    bias: ClassVar[str | None] = None

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        return draw_jumps(q, n, source, coupled=self.coupled)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return weigh_jumps(draw, cost)


def draw_jumps(
    q: Distribution,
    n: int,
    source: Source | None,
    derivatives: Callable[[Distribution], list[Weak]] = weak_derivatives,
    *,
    coupled: bool = True,
    choose: bool = False,
) -> Draw:
    """Samples, and copies of them in which one component has jumped: each in turn, or one that is chosen for each row."""
    if isinstance(source, Replay):
        raise ValueError(
            "samples and their jumps are made from noises that are independent, and rp.Replay would give the same for both: replay "
            "them with rp.Fresh(torch.Generator().manual_seed(...))"
        )
    base: Distribution = q
    while isinstance(base, Independent):
        base = base.base_dist
    law: Distribution = base._categorical if isinstance(base, OneHotCategorical) else base
    flat = torch.Size([n, *q.batch_shape, math.prod(base.batch_shape[len(q.batch_shape) :])])
    splits = []
    with torch.no_grad():
        weak = derivatives(law)
        x = sample(law, (n,), source=source).detach()
        at = Drawn(x, x if coupled else sample(law, (n,), source=source).detach(), coupled, source)
        rows = [x.reshape(flat)]
        for theta, jumps in weak:
            if _needs_gradient(theta):
                if isinstance(jumps, str):
                    raise NotImplementedError(f"{type(law).__name__}: {jumps}")
                split, moved = _split(theta, jumps(at), rows[0], source, choose=choose)
                splits.append(split)
                rows.append(moved)
    value = torch.cat(rows)
    value = value.reshape(value.shape[:1] + base.batch_shape)
    if isinstance(base, OneHotCategorical):
        value = is_one_of(value, base.probs.shape[-1]).to(base.probs.dtype)
    return _Jumps(value, q.batch_shape, n=n, splits=tuple(splits))


def _needs_gradient(theta: Tensor) -> bool:
    if theta.requires_grad or torch.compiler.is_compiling():
        return theta.requires_grad
    # A transform of torch.func does not say which of its tensors it differentiates in; forward mode asks for no gradient.
    return bool(is_functorch_wrapped_tensor(theta)) or unpack_dual(theta).tangent is not None


def _split(theta: Tensor, jump: Jump, x: Tensor, source: Source | None, *, choose: bool) -> tuple[_Split, Tensor]:
    """The differences of one parameter, and the rows that they are made of; `x` is `n + batch + (D,)`."""
    size = x.shape[-1]
    flat = jump.z.shape[:1] + x.shape

    def flattened(t: Tensor) -> Tensor:
        return t.detach().expand(jump.z.shape).reshape(flat)

    z, weight = flattened(jump.z), flattened(jump.weight)
    chance = None if jump.chance is None else flattened(jump.chance)
    into = None if jump.into is None else flattened(jump.into)
    if choose and size > 1:
        power = weight.abs().sum(0).mean(0) if jump.power is None else jump.power.abs().expand(jump.z.shape[2:]).reshape(flat[2:])
        power = torch.where(power.sum(-1, keepdim=True) > 0, power, 1.0).double()
        p = power / power.sum(-1, keepdim=True)
        chosen = is_one_of(_in_turn(p, x.shape[0], source), size)
        p = p.to(weight.dtype)
        moving = chosen.unsqueeze(0)
        counts, share = torch.where(chosen, 1 / p, 0.0), chosen.to(p.dtype)
    else:
        moving = torch.eye(size, dtype=torch.bool, device=x.device).reshape(size, *(1,) * (x.dim() - 1), size)
        counts, share = weight.new_ones(1), weight.new_full((1,), 1 / max(size, 1))
    moved = torch.where(moving, z.unsqueeze(1), x).flatten(0, 2)
    return _Split(theta, len(z), len(moving), weight, chance, into, counts, share), moved


def _in_turn(p: Tensor, n: int, source: Source | None) -> Tensor:
    """Samples of an index, n of probabilities p each, as even as can be: at (k + u)/n of the distribution function."""

    def uniform(rows: int) -> Tensor:
        return Noise(UNIFORM, p.shape[:-1], p.dtype, p.device).draw((rows,), source=source)

    # In random order: the samples that p may have come from are not to know which part of it is theirs.
    at = (uniform(n).argsort(0) + uniform(1)) / n
    sums = p.cumsum(-1)
    return (at.unsqueeze(-1) > sums / sums[..., -1:]).sum(-1)


def weigh_jumps(draw: Draw, cost: Tensor) -> Tensor:
    """The mean cost of the samples, with the gradient that the differences give in each parameter."""
    if not isinstance(draw, _Jumps) or draw.splits is None:
        raise ValueError("this draw has no jumps: weigh it with the estimator that drew it")
    batch, shape = draw.batch_shape, cost.shape[1:]
    if math.prod(batch[len(shape) :]) != 1:
        raise ValueError(
            f"the cost without its rows has shape {tuple(shape)}, the batch of the law {tuple(batch)}: its elements move all at "
            "once, so the cost must keep them. Sum after the expectation, make them one event, of which one component at a time is "
            "moved, with torch.distributions.Independent(q, k), or use rp.LeaveOneOut()"
        )
    keep = shape + (1,) * (len(batch) - len(shape))
    x, *moved = cost.reshape(cost.shape[:1] + keep).split([draw.n, *(s.jumps * s.sets * draw.n for s in draw.splits)])
    mean, gradients = x, []
    for split, other in zip(draw.splits, moved, strict=True):
        change = (other.reshape(split.jumps, split.sets, draw.n, *keep) - x).movedim(1, -1)
        if split.chance is not None:  # what cannot happen costs nothing, though f be infinite there
            change = torch.where((split.chance == 0) & ~change.isfinite(), 0.0, change)
        gradient = _times(split.weight * split.counts, change.detach())
        if split.into is not None:
            size = split.theta.shape[-1]
            into = split.into.expand(gradient.shape).movedim(0, -1)
            gradient = gradient.new_zeros(*into.shape[:-1], size).scatter_add(-1, into, gradient.movedim(0, -1)).mean(0)
        else:
            gradient = gradient.sum(0).mean(0)
        gradients.append(gradient)
        if split.chance is not None:
            mean = mean + _times(split.chance * split.share, change).sum((0, -1))
    value: Tensor = mean.mean(0).reshape(shape)
    for split, gradient in zip(draw.splits, gradients, strict=True):
        own = split.theta.shape[len(batch) :]
        value = first_order(value, split.theta.expand(keep + own), gradient.reshape(keep + own))
    return value


def _times(weight: Tensor, change: Tensor) -> Tensor:
    """The product, zero where the weight is, though the change be infinite."""
    return weight * torch.where((weight == 0) & ~change.isfinite(), 0.0, change)
