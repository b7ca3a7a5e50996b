"""Exact expectations over finite supports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, OneHotCategorical

from reparam.estimators.estimator import Draw
from reparam.noise import Source

__all__ = ["Enumerate", "support_size"]


@dataclass(frozen=True)
class Enumerate:
    """The exact sum Σ_z q(z) f(z) over a finite support: no variance, derivatives of every order.

    The rows are the values of the support, whatever `n` is; an event of several components (`Independent`) has the product
    of their supports. A batch is enumerated element by element, so the cost must keep the batch dimensions.

    Args:
        limit: the largest support that is enumerated.

    Raises:
        NotImplementedError: when the support is not finite.
        ValueError: when it is larger than `limit`, or when the cost has summed a batch dimension.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Bernoulli, Independent
        >>> logits = torch.zeros(4, requires_grad=True)
        >>> q = Independent(Bernoulli(logits=logits), 1)             # 16 rows
        >>> rp.expect(lambda z: z.prod(-1), q, estimator=rp.Enumerate())
        tensor(0.0625, grad_fn=<SumBackward1>)
    """

    limit: int = 65536
    bias: ClassVar[str | None] = None

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        size = support_size(q)
        if size is None:
            raise NotImplementedError(
                f"{_name(q)} has no finite support that can be enumerated; use rp.LeaveOneOut(), rp.Score() or rp.Pathwise()"
            )
        if size > self.limit:
            raise ValueError(
                f"{_name(q)} has {size} values, more than the limit of {self.limit}: use rp.LeaveOneOut() with n rows, or raise "
                "rp.Enumerate(limit=...)"
            )
        values = _support(q)
        ones = (1,) * len(q.batch_shape)
        value = values.reshape(values.shape[:1] + ones + q.event_shape).expand(values.shape[:1] + q.batch_shape + q.event_shape)
        # Values of their own, so that f may write into them.
        return Draw(value.clone(), q.batch_shape, weight=_probabilities(q, value))

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        if draw.weight is None:
            raise ValueError("this draw carries no probabilities: weigh it with the estimator that drew it")
        if math.prod(draw.weight.shape[cost.dim() :]) != 1:
            raise ValueError(
                f"the cost has shape {tuple(cost.shape)}, the enumerated rows and batch {tuple(draw.weight.shape)}: batch "
                "dimensions are enumerated one by one, so the cost must keep them. Sum after the expectation, make them one event "
                "with torch.distributions.Independent(q, k) to enumerate them jointly, or use rp.LeaveOneOut()"
            )
        weight = draw.weight.reshape(draw.weight.shape[: cost.dim()])
        # What cannot happen costs nothing, though f be infinite there.
        impossible = (weight == 0) & ~cost.isfinite()
        return (weight * torch.where(impossible, 0.0, cost)).sum(0)


def _probabilities(q: Distribution, value: Tensor) -> Tensor:
    """The probability of each value. From `probs` where the law was given them: torch's log-densities clamp them at 1e-7."""
    if isinstance(q, Independent):
        p = _probabilities(q.base_dist, value)
        return p.flatten(-q.reinterpreted_batch_ndims).prod(-1) if q.reinterpreted_batch_ndims else p
    if isinstance(q, OneHotCategorical):
        return _probabilities(q._categorical, value.argmax(-1))
    if isinstance(q, Bernoulli | Categorical) and q._param is vars(q).get("probs"):
        p = q.probs
        if isinstance(q, Bernoulli):
            return torch.where(value == 1, p, 1 - p)
        return p.expand(value.shape + p.shape[-1:]).gather(-1, value.unsqueeze(-1)).squeeze(-1)
    log_prob: Tensor = q.log_prob(value)
    return log_prob.exp()


def _name(q: Distribution) -> str:
    return f"Independent({_name(q.base_dist)})" if isinstance(q, Independent) else type(q).__name__


def support_size(q: Distribution) -> int | None:
    """The number of values that one element of `q` can take, or None when that is not known to be finite."""
    if isinstance(q, Independent):
        size = support_size(q.base_dist)
        components = math.prod(q.base_dist.batch_shape[len(q.batch_shape) :])
        return None if size is None else size**components
    if not q.has_enumerate_support:
        return None
    try:
        # The extent of the unexpanded support, without its values: one row per value.
        return q.enumerate_support(expand=False).shape[0]
    except NotImplementedError:  # Binomial with several total counts
        return None


def _support(q: Distribution) -> Tensor:
    """The values of one element, `size + event`."""
    if not isinstance(q, Independent):
        return q.enumerate_support(expand=False).reshape((-1, *q.event_shape))
    values = _support(q.base_dist)
    components = math.prod(q.base_dist.batch_shape[len(q.batch_shape) :])
    if components == 0:
        return values.new_zeros((1, *q.event_shape))
    choices = torch.cartesian_prod(*[torch.arange(len(values), device=values.device)] * components)
    return values[choices.reshape(-1, components)].reshape((-1, *q.event_shape))
