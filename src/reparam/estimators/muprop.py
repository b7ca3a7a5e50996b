"""The score function with the tangent of the cost at the mean as control variate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators.estimator import Draw, sum_to_cost
from reparam.estimators.factors import factors
from reparam.estimators.surrogate import magic
from reparam.estimators.variate import others
from reparam.noise import Source
from reparam.paths import sample

__all__ = ["MuProp"]


@dataclass(frozen=True)
class _WithMean(Draw):
    """A draw whose last row is the mean.

    Attributes:
        mean: of the law, `batch + event`, differentiable.
        event_dim: how many of its dimensions are event.
        independent: whether the rows are, of each other.
    """

    mean: Tensor | None = None
    event_dim: int = 0
    independent: bool = True


@dataclass(frozen=True)
class MuProp:
    """The score function with the first-order expansion of the cost at the mean μ as control variate; coins and one-hot choices.

    The gradient is that of

        log q(b) (f(b) − f(μ) − f′(μ)·(b − μ)) + f′(μ)·μ,

    μ constant in the first term and f(μ), f′(μ) in all: unbiased, as are second derivatives. The cost is evaluated at n values
    and at the mean, n + 1 rows. For n ≥ 2 the other samples give a baseline besides, as in `REBAR`. It takes the slope of the
    cost, so neither `torch.func` nor `torch.compile` goes through it.

    Raises:
        NotImplementedError: for a law that is not made of coins or one-hot choices.
        ValueError: for a cost that has dimensions for rows that the law has not.

    Source: Gu et al., arXiv:1511.05176.

    Example:
        >>> import torch, reparam as rp
        >>> w = torch.zeros(5, requires_grad=True)
        >>> q = torch.distributions.Independent(torch.distributions.Bernoulli(logits=w), 1)
        >>> rp.expect(lambda z: z.sum(-1), q, estimator=rp.MuProp(), n=1).backward()          # no variance: a linear cost
        >>> torch.allclose(w.grad, torch.full((5,), 0.25))
        True
    """

    bias: ClassVar[str | None] = None

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        law = factors(q, "MuProp", soft=True)
        value = sample(q, (n,), source=source)
        mean = law.logits.sigmoid() if law.kind == "coins" else law.logits.softmax(-1)
        # A leaf of its own in the rows: the slope of the cost there is asked for, and the cost does not move with it.
        rows = torch.cat([value, mean.detach().unsqueeze(0)]).requires_grad_(torch.is_grad_enabled())
        return _WithMean(
            rows,
            q.batch_shape,
            law.joint(law.log_prob(law.index(value))),
            mean=mean,
            event_dim=len(q.event_shape),
            independent=getattr(source, "independent", True),
        )

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        if not isinstance(draw, _WithMean) or draw.mean is None or draw.log_prob is None:
            raise ValueError("this draw has no row at the mean: weigh it with the estimator that drew it")
        if cost.shape[1:] != draw.batch_shape[: cost.dim() - 1]:
            raise ValueError(
                f"the cost has shape {tuple(cost.shape)}, the batch of the law {tuple(draw.batch_shape)}: MuProp takes one slope "
                "for each element of the law, so in a graph the law must have the rows before it (expand its parameters)"
            )
        hard, middle = cost[:-1], cost[-1].detach()
        event = tuple(range(-draw.event_dim, 0))
        mean, value = draw.mean, draw.value[:-1].detach()
        slope = torch.zeros_like(mean)
        if cost.requires_grad and draw.value.requires_grad:
            (slopes,) = torch.autograd.grad(
                cost[-1].sum(), draw.value, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            slope = slopes[-1]

        def along(step: Tensor) -> Tensor:
            """How far the tangent rises, of the shape of the cost."""
            rise = slope * step
            return sum_to_cost(rise.sum(event) if event else rise, hard)

        tangent = middle + along(value - mean.detach())
        one = magic(draw.log_prob, hard)
        baseline = tangent + others(hard - tangent, draw.independent)
        return (hard * one + baseline * (1 - one) + along((mean - mean.detach()).unsqueeze(0))).mean(0)
