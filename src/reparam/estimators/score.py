"""Score-function estimators: raise the log-probability of what turned out cheap."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    Distribution,
    Independent,
    MixtureSameFamily,
    Transform,
    TransformedDistribution,
)

from reparam.errors import BadInputError
from reparam.estimators.baseline import check_baseline, read, update
from reparam.estimators.estimator import Draw
from reparam.estimators.perturb import solved
from reparam.estimators.surrogate import descend, magic
from reparam.noise import Source, readable
from reparam.paths import sample
from reparam.paths.path import bounds, is_discrete, representable, support_of

__all__ = ["LeaveOneOut", "Score", "check_fixed_support"]

_End = tuple[Tensor | float, bool]


@dataclass(frozen=True)
class _Scored(Draw):
    """Attributes: baseline: as it was when the rows were drawn, before any cost that depends on them could move it."""

    baseline: float | Tensor = 0.0


@dataclass(frozen=True)
class Score:
    """The score function, REINFORCE: E[(f(z) − b) ∇ log q(z)] + E[∇f].

    Works for every distribution whose support does not depend on its parameters, and for every cost; unbiased for any baseline b
    that does not depend on z. Derivatives of every order are unbiased (arXiv:1802.05098).

    A baseline that requires a gradient is learned: its squared distance to the costs is descended by the `backward` that
    differentiates the estimate, whether that is minimised or maximised. Give its parameters to the optimiser.

    Args:
        baseline: a number, or a tensor that broadcasts to the cost without its rows, such as `net(x)` of the data x that
            the cost is about; or an `nn.Module` that returns one when called without arguments. A module that has a method
            `update(cost)`, such as `rp.MovingAverage`, is given the costs, detached, after use. `None` is zero.

    Raises:
        ValueError: when a bound of the support needs a gradient (Uniform, Pareto): its share would be missing.

    Source: Williams (1992), "Simple statistical gradient-following algorithms"; learned baselines: NVIL, arXiv:1402.0030.

    Example:
        >>> import torch, reparam as rp
        >>> rate = torch.tensor(3.0, requires_grad=True)
        >>> q = torch.distributions.Poisson(rate)
        >>> b = torch.tensor(1.0, requires_grad=True)             # learned: moves towards the costs
        >>> rp.expect(lambda z: z + 8.0, q, estimator=rp.Score(baseline=b), n=100).backward()
        >>> rate.grad.isfinite(), b.grad < 0
        (tensor(True), tensor(True))
    """

    baseline: float | Tensor | nn.Module | None = None
    bias: ClassVar[str | None] = None

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        rows = _scored(q, n, source)
        return _Scored(rows.value, rows.batch_shape, rows.log_prob, baseline=read(self.baseline))

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        if not isinstance(draw, _Scored):
            raise ValueError("this draw carries no baseline: weigh it with the estimator that drew it")
        baseline, fixed = draw.baseline, cost.detach()
        if not isinstance(baseline, Tensor):
            return _surrogate(draw, cost, baseline)
        check_baseline(baseline, cost)
        baseline = baseline.to(cost.dtype)
        estimate = _surrogate(draw, cost, baseline.detach())
        if baseline.requires_grad:
            estimate = descend(estimate, ((baseline - fixed) ** 2).mean(0))
        update(self.baseline, fixed)
        return estimate


@dataclass(frozen=True)
class LeaveOneOut:
    """The score function with the mean cost of the other rows as each row's baseline; needs n ≥ 2 independent rows.

    Raises:
        ValueError: for one row; for a source whose rows depend on each other (antithetic, Sobol), which would bias it.

    Source: Kool et al. (2019), "Buy 4 REINFORCE samples, get a baseline for free!"; VIMCO's baseline, arXiv:1602.06725.

    Example:
        >>> import torch, reparam as rp
        >>> w = torch.zeros(5, requires_grad=True)
        >>> q = torch.distributions.Categorical(logits=w)
        >>> rp.expect(lambda z: (z - 2.0) ** 2, q, estimator=rp.LeaveOneOut(), n=4).backward()
        >>> w.grad.shape
        torch.Size([5])
    """

    bias: ClassVar[str | None] = None

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        if n < 2:
            raise ValueError(f"LeaveOneOut needs at least 2 rows, got n={n}: pass n=2 or more, or use rp.Score(rp.MovingAverage())")
        if not getattr(source, "independent", True):
            raise BadInputError(
                f"the rows of {source!r} depend on each other, so that one row's baseline would depend on the row: use "
                "rp.Score(), with a baseline that is constant, learned or rp.MovingAverage(), or fresh noise"
            )
        return _scored(q, n, source)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        fixed = cost.detach()
        others = (fixed.sum(0, keepdim=True) - fixed) / (fixed.shape[0] - 1)
        return _surrogate(draw, cost, others)


def _scored(q: Distribution, n: int, source: Source | None) -> Draw:
    check_fixed_support(q)
    if (hidden := solved(q)) is not None:
        # What a solver returns has no probability in closed form; the noisy scores that it was called with have.
        law, noisy = hidden
        rows = _scored(noisy, n, source)
        return replace(rows, value=law.solve(rows.value))
    # A copy: a caching transform would recognise its own output, and answer with the inverse that was cut from the graph.
    value = sample(q, (n,), source=source).clone()
    if not is_discrete(q):
        value = representable(value, support_of(q))
    return Draw(value, q.batch_shape, q.log_prob(value))


def check_fixed_support(q: Distribution) -> None:
    """Refuse a law whose support moves with a parameter that needs a gradient: its score does not have mean zero."""
    if any(moves for _, moves in _ends(q)):
        raise ValueError(
            f"the support of {type(q).__name__} depends on a parameter that needs a gradient, which the score function misses: "
            "use rp.Pathwise()"
        )


def _ends(q: Distribution) -> list[_End]:
    """The ends of the support, and whether they move with a parameter that needs a gradient."""
    if isinstance(q, Independent):
        return _ends(q.base_dist)
    if isinstance(q, MixtureSameFamily):
        return _ends(q.component_distribution)
    if isinstance(q, TransformedDistribution) and type(q).support is TransformedDistribution.support:
        return _through(ComposeTransform(q.transforms), _ends(q.base_dist))
    return [(b, isinstance(b, Tensor) and b.requires_grad) for b in bounds(support_of(q)) if b is not None]


def _through(transform: Transform, ends: list[_End]) -> list[_End]:
    """What a transform makes of the ends; none are known where it mixes components."""
    if isinstance(transform, ComposeTransform):
        for part in transform.parts:
            ends = _through(part, ends)
        return ends
    if isinstance(transform, AffineTransform):
        shift, scale = (isinstance(t, Tensor) and t.requires_grad for t in (transform.loc, transform.scale))
        # A scale leaves zero, and infinity, where they are.
        ends = [(x, moves or shift or (scale and not _stays(x))) for x, moves in ends]
    elif transform.domain.event_dim:
        return []
    return [(transform._call(torch.as_tensor(x)), moves) for x, moves in ends]


def _stays(end: Tensor | float) -> bool:
    if isinstance(end, Tensor):
        return readable(end) and bool(((end == 0) | end.isinf()).all())
    return end == 0 or math.isinf(end)


def _surrogate(draw: Draw, cost: Tensor, baseline: float | Tensor) -> Tensor:
    """The mean cost over rows, with the score-function gradient to every order: the weight `one` is 1, its gradient ∇ log q."""
    if draw.log_prob is None:
        raise ValueError("this draw carries no log-probabilities: weigh it with the estimator that drew it")
    one = magic(draw.log_prob, cost)
    return (cost * one + baseline * (1.0 - one)).mean(0)
