"""Exact expectations over finite supports, and sums over all but the tails of others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators.estimator import Draw
from reparam.estimators.support import is_countable, law_name, probabilities, support, support_size
from reparam.noise import Source

__all__ = ["Enumerate", "check_enumerable", "kept"]


@dataclass(frozen=True)
class Enumerate:
    """The exact sum Σ_z q(z) f(z) over a finite support: no variance, derivatives of every order.

    The rows are the values of the support, whatever `n` is; an event of several components (`Independent`) has the product
    of their supports. A batch is enumerated element by element, so the cost must keep the batch dimensions.

    With a `tail`, laws of counts (Poisson, Geometric, NegativeBinomial, Binomial) are summed over a range of values, of each
    element its own, that holds all but that probability. Their number follows from the parameters, so that neither
    `torch.compile` nor `torch.vmap` can trace it.

    Args:
        limit: the largest support that is enumerated.
        tail: the probability that may be left out; 0 leaves out nothing and refuses what has no end.

    Raises:
        NotImplementedError: when the support is not finite, or not known to be.
        ValueError: when it is larger than `limit`, or when the cost has summed a batch dimension.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Bernoulli, Independent, Poisson
        >>> logits = torch.zeros(4, requires_grad=True)
        >>> q = Independent(Bernoulli(logits=logits), 1)             # 16 rows
        >>> rp.expect(lambda z: z.prod(-1), q, estimator=rp.Enumerate())
        tensor(0.0625, grad_fn=<SumBackward1>)
        >>> value = rp.expect(lambda z: z**2, Poisson(3.0), estimator=rp.Enumerate(tail=1e-9))
        >>> torch.allclose(value, torch.tensor(12.0))
        True
    """

    limit: int = 65536
    tail: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.tail < 1.0:
            raise ValueError(f"the tail is {self.tail!r}: give the probability that may be left out, such as 1e-9, or 0")

    @property
    def bias(self) -> str | None:
        """None, or what is left out."""
        if self.tail == 0:
            return None
        return f"Values of counts that hold at most {self.tail:g} of the probability are left out, with their share of the cost."

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        check_enumerable(q, self.limit, self.tail)
        value = support(q, self.tail)
        # Values of their own, so that f may write into them.
        return Draw(value.clone(), q.batch_shape, weight=probabilities(q, value))

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        if draw.weight is None:
            raise ValueError("this draw carries no probabilities: weigh it with the estimator that drew it")
        weight = kept(draw.weight, cost)
        # What cannot happen costs nothing, though f be infinite there.
        impossible = (weight == 0) & ~cost.isfinite()
        return (weight * torch.where(impossible, 0.0, cost)).sum(0)


def kept(per_row: Tensor, cost: Tensor) -> Tensor:
    """A tensor of shape `rows + batch`, where every element has rows of its own, without dimensions of one that a cost lacks."""
    if math.prod(per_row.shape[cost.dim() :]) != 1:
        raise ValueError(
            f"the cost has shape {tuple(cost.shape)}, the rows and batch {tuple(per_row.shape)}: batch dimensions are enumerated "
            "one by one, so the cost must keep them. Sum after the expectation, make them one event "
            "with torch.distributions.Independent(q, k) to enumerate them jointly, or use rp.LeaveOneOut()"
        )
    return per_row.reshape(per_row.shape[: cost.dim()])


def check_enumerable(q: Distribution, limit: int, tail: float = 0.0) -> None:
    """Refuse a law whose values cannot be listed, or are more than `limit`."""
    size = support_size(q, tail)
    if size is None:
        cut = "rp.Enumerate(tail=1e-9), which leaves out values of less probability, " if is_countable(q) else ""
        raise NotImplementedError(
            f"{law_name(q)} has no finite support that can be enumerated: use {cut}rp.LeaveOneOut(), or what rp.choose(q, n) names"
        )
    if size > limit:
        raise ValueError(
            f"{law_name(q)} has {size} values, more than the limit of {limit}: use rp.LeaveOneOut() with n rows, what "
            "rp.choose(q, n) names, or raise limit=..."
        )
