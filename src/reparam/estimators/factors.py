"""A discrete law as independent coins or choices: what estimators for such laws compute with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, OneHotCategorical

__all__ = ["Factors", "factors"]


@dataclass(frozen=True)
class Factors:
    """Independent factors, each a coin or a choice among K.

    Attributes:
        kind: `coins` (Bernoulli), `indices` (Categorical) or `one-hot` (OneHotCategorical).
        logits: of each factor, `batch + inner`, and for choices + (K,); differentiable in the parameters of the law.
        batch_shape: of the law; the inner dimensions, which `Independent` made part of its event, follow in `logits`.
        dtype: of the law's values.
    """

    kind: Literal["coins", "indices", "one-hot"]
    logits: Tensor
    batch_shape: torch.Size
    dtype: torch.dtype

    def value(self, index: Tensor) -> Tensor:
        """Values of the law, `rows + batch + event`, for the outcome of each factor, of shape `rows + batch + inner`."""
        if self.kind == "one-hot":
            # torch's one_hot looks at the values, which torch.func.vmap cannot.
            return (index.unsqueeze(-1) == torch.arange(self.logits.shape[-1], device=index.device)).to(self.dtype)
        return index.to(self.dtype)

    def index(self, value: Tensor) -> Tensor:
        """The outcome of each factor of a value: the inverse of `value`."""
        return value.argmax(-1) if self.kind == "one-hot" else value.long()

    def log_prob(self, index: Tensor) -> Tensor:
        """Log-probability of the outcome of each factor, of the shape of `index`."""
        if self.kind == "coins":
            # log sigmoid(±logits): of either outcome without cancellation.
            return torch.nn.functional.logsigmoid(torch.where(index > 0, self.logits, -self.logits))
        log_p = self.logits.log_softmax(-1)
        return log_p.expand(index.shape + log_p.shape[-1:]).gather(-1, index.long().unsqueeze(-1)).squeeze(-1)

    def joint(self, per_factor: Tensor) -> Tensor:
        """The sum over the inner dimensions of a tensor of shape `rows + batch + inner`: `rows + batch`."""
        inner = (self.logits.dim() - (self.kind != "coins")) - len(self.batch_shape)
        return per_factor.flatten(-inner).sum(-1) if inner else per_factor


def factors(q: Distribution, estimator: str, *, soft: bool = False, coins: bool = False) -> Factors:
    """The factors of a Bernoulli, Categorical, OneHotCategorical, or an Independent of one.

    Args:
        q: the law.
        estimator: who asks, for the error.
        soft: refuse a law whose values are indices, between which there is nothing.
        coins: refuse all but Bernoulli laws.

    Raises:
        NotImplementedError: for another law, saying what to use instead.
    """
    base: Distribution = q
    while isinstance(base, Independent):
        base = base.base_dist
    name = type(base).__name__
    if isinstance(base, Bernoulli):
        return Factors("coins", base.logits, q.batch_shape, base.logits.dtype)
    if coins or not isinstance(base, Categorical | OneHotCategorical):
        serves = "Bernoulli" if coins else "Bernoulli, OneHotCategorical" + ("" if soft else ", Categorical")
        raise NotImplementedError(
            f"{estimator} is for {serves} and Independent of these, not for {name}: use rp.LeaveOneOut() with n=2 or more, or what "
            "rp.choose(q, n) names"
        )
    if isinstance(base, OneHotCategorical):
        return Factors("one-hot", base._categorical.logits, q.batch_shape, base.logits.dtype)
    if soft:
        raise NotImplementedError(
            f"{estimator} evaluates the cost between the values of the law, and those of a Categorical are indices: write it as "
            "torch.distributions.OneHotCategorical and the cost as a function of one-hot vectors, or use rp.LeaveOneOut()"
        )
    return Factors("indices", base.logits, q.batch_shape, torch.int64)
