"""Distinct rows of a finite support: no value is looked at twice."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, OneHotCategorical

from reparam.estimators.estimator import Draw, check_rows
from reparam.estimators.exact import check_enumerable, kept
from reparam.estimators.support import is_one_of, probabilities, support
from reparam.noise import EXPONENTIAL, Source
from reparam.paths import noise_like

__all__ = ["SumAndSample", "WithoutReplacement"]

# Sums over 2^n subsets of the rows.
MOST_ROWS = 12


@dataclass(frozen=True)
class _Distinct(Draw):
    """Rows with the probabilities p of their values in `weight`.

    Attributes:
        ratio: what makes Σ p · ratio · f, over rows, unbiased for E[f] whatever f is; constant, `rows + batch`.
        mixing: of the costs of all rows, what each row's cost is compared with, `rows + rows + batch`.
    """

    ratio: Tensor | None = None
    mixing: Tensor | None = None


@dataclass(frozen=True)
class WithoutReplacement:
    """The unordered set estimator: n distinct values, weighed by what the first of them would be, for laws with a finite support.

    Of a set S of n values drawn without replacement, value s was the first with probability p(s) R(S, s), where R is the
    probability of the rest of S in a law without s over that of S. The gradient is

        Σ_{s ∈ S} ∇p(s) R(S, s) (f(s) − B(s)),    B(s) = p(s) f(s) + Σ_{s' ≠ s} p(s') R(S without s, s') f(s'),

    where B(s), the same estimate of E[f] when s is known, costs nothing. Unbiased, derivatives of every order; exact when n
    is the size of the support, and no more rows are drawn than that. A batch is drawn element by element, so the cost must keep
    the batch dimensions.

    Args:
        limit: the largest support whose probabilities are listed.

    Raises:
        ValueError: for n = 1 or n > 12 (weights are sums over 2ⁿ subsets); for a support larger than `limit`; for a cost
            that has summed a batch dimension.
        NotImplementedError: when the support is not finite.

    Source: Kool et al., arXiv:2002.06043; samples by the Gumbel-top-k trick, arXiv:1903.06059.

    Example:
        >>> import torch, reparam as rp
        >>> w = torch.zeros(100, requires_grad=True)
        >>> q = torch.distributions.Categorical(logits=w)
        >>> rp.expect(lambda z: (z - 2.0) ** 2, q, estimator=rp.WithoutReplacement(), n=4).backward()
        >>> w.grad.shape
        torch.Size([100])
    """

    limit: int = 65536
    bias: ClassVar[str | None] = None

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        if not 2 <= n <= MOST_ROWS:
            raise ValueError(
                f"WithoutReplacement draws 2 to {MOST_ROWS} distinct rows, got n={n}: use rp.Score() for one row, rp.LeaveOneOut() "
                "or rp.SumAndSample(k) for many"
            )
        values, p = _listed(q, self.limit)
        fixed = p.detach().double()
        # The order in which exponential clocks with rates p ring is that of draws without replacement.
        clock = noise_like(fixed, EXPONENTIAL).draw((), source=source).log() - fixed.log()
        chosen = clock.topk(min(n, len(p)), 0, largest=False).indices
        rest = fixed.scatter(0, chosen, 0.0).sum(0)
        first, second = _ratios(fixed.gather(0, chosen), rest)
        of_rows = p.gather(0, chosen)
        mixing = second * of_rows.detach()
        return _Distinct(
            _rows(values, chosen, q), q.batch_shape, weight=of_rows, ratio=first.to(p.dtype), mixing=mixing.to(p.dtype)
        )

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return _weigh(draw, cost)


@dataclass(frozen=True)
class SumAndSample:
    """The k most probable values are summed and the others sampled: n rows, of which n − k are samples.

    With C the k most probable values, the gradient is

        Σ_{z ∈ C} ∇q(z) (f(z) − b) + q(not C) ∇log q(v) (f(v) − b),    v ~ q without C,    b = Σ_{z ∈ C} q(z) f(z) / q(C).

    Unbiased, derivatives of every order, for laws with a finite support; exact when k is its size. It pays where most of the
    probability is on few values. A batch is drawn element by element, so the cost must keep the batch dimensions.

    Args:
        k: how many values are summed.
        limit: the largest support whose probabilities are listed.

    Raises:
        ValueError: for n ≤ k; for a support larger than `limit`; for a cost that has summed a batch dimension.
        NotImplementedError: when the support is not finite.

    Source: Liu et al., "Rao-Blackwellized stochastic gradients for discrete distributions", arXiv:1810.04777.

    Example:
        >>> import torch, reparam as rp
        >>> w = torch.arange(100.0).neg().requires_grad_()
        >>> q = torch.distributions.Categorical(logits=w)
        >>> rp.expect(lambda z: (z - 2.0) ** 2, q, estimator=rp.SumAndSample(7), n=8).backward()
        >>> w.grad.shape
        torch.Size([100])
    """

    k: int
    limit: int = 65536
    bias: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        check_rows(self.k, "the number of values k that are summed")

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        values, p = _listed(q, self.limit)
        if self.k < len(values) and n <= self.k:
            raise ValueError(
                f"SumAndSample sums k={self.k} values and samples the other n - k: pass n={self.k + 1} or more, got n={n}"
            )
        fixed = p.detach().double()
        summed, chosen = fixed.topk(min(self.k, len(p)), 0)
        sampled = n - self.k if self.k < len(p) else 0
        others = fixed.scatter(0, chosen, 0.0)
        if sampled:
            clocks = noise_like(fixed, EXPONENTIAL).draw((sampled,), source=source).log() - others.log()
            chosen = torch.cat([chosen, clocks.argmin(1)])
        ratio = torch.ones_like(chosen, dtype=fixed.dtype)
        ratio[self.k :] = _quotient(others.sum(0) / max(1, sampled), fixed.gather(0, chosen[self.k :]))
        mixing = torch.zeros_like(ratio)
        mixing[: self.k] = _quotient(summed, summed.sum(0))
        return _Distinct(
            _rows(values, chosen, q),
            q.batch_shape,
            weight=p.gather(0, chosen),
            ratio=ratio.to(p.dtype),
            mixing=mixing[None].to(p.dtype),
        )

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return _weigh(draw, cost)


def _listed(q: Distribution, limit: int) -> tuple[Tensor, Tensor]:
    """The values of a law, one-hot ones as indices, whose list is not as wide as it is long; and their probabilities."""
    check_enumerable(q, limit)
    law: Distribution = q._categorical if isinstance(q, OneHotCategorical) else q
    values = support(law)
    return values, probabilities(law, values)


def _rows(values: Tensor, chosen: Tensor, q: Distribution) -> Tensor:
    """The values of the law, `rows + batch + event`, at the indices `rows + batch` of the list."""
    if isinstance(q, OneHotCategorical):
        return is_one_of(chosen, len(values)).to(q.probs.dtype)
    event = len(q.event_shape)
    index = chosen.reshape(chosen.shape + (1,) * event)
    return values.gather(0, index.expand(chosen.shape + q.event_shape))


def _weigh(draw: Draw, cost: Tensor) -> Tensor:
    """Σ p R f, whose derivatives in p are taken of f − B, and those in f of f."""
    if not isinstance(draw, _Distinct) or draw.weight is None or draw.ratio is None or draw.mixing is None:
        raise ValueError("this draw is not of distinct values: weigh it with the estimator that drew it")
    p, ratio = kept(draw.weight, cost), kept(draw.ratio, cost)
    impossible = (p == 0) & ~cost.isfinite()  # what cannot happen costs nothing
    cost = torch.where(impossible, 0.0, cost)
    mixing = draw.mixing.reshape(draw.mixing.shape[: 1 + cost.dim()])
    baseline = (mixing * cost.detach()).sum(1)
    return (ratio * (p * cost - (p - p.detach()) * baseline)).sum(0)


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """The quotient, and zero where the divisor is."""
    return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)


def _ratios(p: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """R(S, s), `n + batch`, and R(S without s, s'), `n + n + batch`, ones where s' = s.

    Source: the leave-one-out ratios of arXiv:2002.06043. The probability Q(A) that the clocks of A ring before those of the values
    outside S, Q(A) = Σ_{s ∈ A} p(s) Q(A without s) / (p(A) + rest), is run up over subsets: a sum of positive terms.
    """
    n = len(p)
    everything = 2**n - 1
    member = (torch.arange(2**n, device=p.device)[:, None] >> torch.arange(n, device=p.device)) & 1
    rates = torch.tensordot(member.to(p.dtype), p, 1) + rest
    q = torch.ones_like(rates)
    for subsets in _by_size(n):
        s = torch.tensor(subsets, device=p.device)
        terms = [member[s, i].to(p.dtype).reshape((-1,) + (1,) * rest.dim()) * p[i] * q[s & ~(1 << i)] for i in range(n)]
        # Where nothing is left outside S, every subset is complete before it.
        q[s] = torch.where(rest > 0, _quotient(sum(terms, torch.zeros_like(q[s])), rates[s]), 1.0)
    without = [everything & ~(1 << i) for i in range(n)]
    first = q[without] / q[everything]
    second = torch.stack([q[[m & ~(1 << j) for j in range(n)]] / q[m] for m in without])
    return first, second


def _by_size(n: int) -> list[list[int]]:
    """The subsets of n things that are not empty, as bits, smaller ones first."""
    return [[sum(1 << i for i in chosen) for chosen in combinations(range(n), size)] for size in range(1, n + 1)]
