"""Choices whose noise is swapped between the categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators.estimator import Draw
from reparam.estimators.factors import factors
from reparam.estimators.surrogate import first_order
from reparam.noise import EXPONENTIAL, Source
from reparam.paths import noise_like

__all__ = ["ARSM"]


@dataclass(frozen=True)
class _Swaps(Draw):
    """Attributes: logits: `batch + inner + (K,)`; share: the rest of 1/K that each category has of the noise, `n + logits`."""

    logits: Tensor | None = None
    share: Tensor | None = None


@dataclass(frozen=True)
class ARSM:
    """Choices whose exponential noise is swapped between each two categories, all swaps merged; Categorical and one-hot laws.

    A choice is z = argminᵢ (log εᵢ − φᵢ), ε exponential; let z^cj be that after a swap of ε_c and ε_j, which leaves its law alone,
    and π = ε / Σε. Then the gradient in φ_c is

        Σⱼ (f(z^cj) − (1/K) Σₘ f(z^mj)) (1/K − πⱼ),

    unbiased. The factors of an Independent law swap together. There are 1 + K (K − 1) / 2 different swaps, so that n samples are
    n (1 + K (K − 1) / 2) rows; `DisARM` does with two, and at an equal number of rows often has less variance. For K = 2 it
    is `ARM`, which is for coins. First derivatives only.

    Raises:
        NotImplementedError: for a law that is not made of choices.

    Source: Yin et al., arXiv:1905.01413.

    Example:
        >>> import torch, reparam as rp
        >>> w = torch.zeros(3, requires_grad=True)
        >>> q = torch.distributions.Categorical(logits=w)
        >>> rp.expect(lambda z: (z - 1.0) ** 2, q, estimator=rp.ARSM(), n=8).backward()          # 32 rows
        >>> w.grad.shape
        torch.Size([3])
    """

    bias: ClassVar[str | None] = None

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        law = factors(q, "ARSM")
        if law.kind == "coins":
            raise NotImplementedError("ARSM is for choices; for coins it is rp.ARM(), and rp.DisARM() has less variance")
        logits, k = law.logits, law.logits.shape[-1]
        eps = noise_like(logits, EXPONENTIAL).draw((n,), source=source)
        swapped = eps.log()[..., _swaps(k).to(eps.device)] - logits.detach().unsqueeze(-2)
        outcome = swapped.argmin(-1).movedim(-1, 1).flatten(0, 1)
        return _Swaps(law.value(outcome), q.batch_shape, logits=logits, share=1 / k - eps / eps.sum(-1, keepdim=True))

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        if not isinstance(draw, _Swaps) or draw.logits is None or draw.share is None:
            raise ValueError("this draw is not of swaps: weigh it with the estimator that drew it")
        value, share, k = cost.mean(0), draw.share, draw.logits.shape[-1]
        # Of each sample, and in the place of each factor: f(z^cj) as a K × K table.
        tables = cost.detach().unflatten(0, (len(share), -1))[:, _number(k).to(cost.device)].movedim((1, 2), (-2, -1))
        tables = tables - tables.mean(-2, keepdim=True)
        tables = tables.reshape(tables.shape[:-2] + (1,) * (share.dim() + 1 - tables.dim()) + (k, k))
        whole = value.shape + draw.logits.shape[value.dim() :]
        gradient = (tables @ share.to(tables.dtype).unsqueeze(-1)).squeeze(-1).mean(0)
        return first_order(value, draw.logits.expand(whole), gradient.to(draw.logits.dtype).expand(whole))


def _pairs(k: int) -> Tensor:
    return torch.triu_indices(k, k, 1)


def _swaps(k: int) -> Tensor:
    """The permutations of K categories that leave all, or all but two, in place: `(1 + K (K - 1) / 2, K)`."""
    c, j = _pairs(k)
    table = torch.arange(k).repeat(len(c) + 1, 1)
    rows = torch.arange(1, len(c) + 1)
    table[rows, c], table[rows, j] = j, c
    return table


def _number(k: int) -> Tensor:
    """Which of the swaps is that of c and j, `(K, K)`; the first is none."""
    c, j = _pairs(k)
    table = torch.zeros(k, k, dtype=torch.int64)
    table[c, j] = table[j, c] = torch.arange(1, len(c) + 1)
    return table
