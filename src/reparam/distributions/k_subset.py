"""The law of k items out of n."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl
from torch.distributions.constraints import Constraint

from reparam.distributions.law import Discrete
from reparam.noise import UNIFORM, Noise, readable
from reparam.paths.discrete import steps
from reparam.paths.path import Path

__all__ = ["KSubset"]

# More values than these are not listed: as many as rp.Enumerate takes.
_LISTED = 65536


class _KHot(Constraint):
    """Vectors of zeros and k ones."""

    is_discrete = True
    event_dim = 1

    def __init__(self, k: int) -> None:
        self.k = k
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == self.k)


class KSubset(Discrete):
    """Exactly k of n items: `p(z)` proportional to `exp(logits . z)` among the vectors of zeros and k ones.

    Independent coins of these logits, given that k of them come up: the conditional Poisson law. Everything comes from the
    elementary symmetric sums of `exp(logits)`, by a recursion in log space of n steps: the total, the exact marginals (`mean`), the
    entropy and the samples; all are differentiable. A logit of minus infinity is an item that is never taken.

    Args:
        k: how many, from 0 to n.
        logits: of shape `batch + (n,)`.

    Raises:
        ValueError: for a k out of range, and when fewer than k items can be taken.
        TypeError: for a k that is not an integer.

    Source: Chen, Dempster and Liu (1994), "Weighted finite population sampling to maximize entropy"; arXiv:2210.01941.

    Example:
        >>> import torch
        >>> d = KSubset(2, torch.tensor([0.0, 1.0, 2.0, 3.0]))
        >>> bool((d.sample((7,)).sum(-1) == 2).all()), round(d.mean.sum().item(), 4)
        (True, 2.0)
    """

    arg_constraints = {"logits": constraints.real_vector}
    logits: Tensor

    def __init__(self, k: int, logits: Tensor, validate_args: bool | None = None) -> None:
        if isinstance(k, bool) or not isinstance(k, int):
            raise TypeError(f"KSubset takes k as an integer, the number of items; got {k!r}")
        if logits.dim() < 1 or not 0 <= k <= logits.shape[-1]:
            raise ValueError(
                f"KSubset was given k={k} and logits of shape {tuple(logits.shape)}: k lies between 0 and the last size"
            )
        self.k, self.logits = k, logits
        self.has_enumerate_support = math.comb(logits.shape[-1], k) <= _LISTED
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args)
        if self._validate_args and readable(logits) and bool(((logits > -torch.inf).sum(-1) < k).any()):
            raise ValueError(f"KSubset was given k={k} and logits of which fewer than {k} are above minus infinity")

    @property
    def support(self) -> Constraint:
        return _KHot(self.k)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        # Not the product: minus infinity times zero is not a number.
        taken = torch.where(value > 0, self.logits.double(), 0.0).sum(-1)
        return torch.where(self.support.check(value), taken - self._log_total(), -torch.inf).to(self.logits.dtype)

    def _log_total(self) -> Tensor:
        return _log_sums(self.logits, self.k)[..., -1, self.k]

    @property
    def mean(self) -> Tensor:
        """The exact marginals: the probability that each item is taken."""
        before = _log_sums(self.logits, self.k)
        behind = _log_sums(self.logits.flip(-1), self.k).flip(-2)
        # What is left, k - 1, is divided among the items before and behind.
        others = torch.logsumexp(before[..., :-1, : self.k] + behind[..., 1:, : self.k].flip(-1), -1)
        return torch.exp(self.logits + others - before[..., -1:, self.k]).to(self.logits.dtype)

    @property
    def variance(self) -> Tensor:
        """Of each component."""
        p = self.mean
        return p * (1 - p).clamp(min=0.0)

    @property
    def mode(self) -> Tensor:
        """The k items of the largest logits."""
        return torch.zeros_like(self.logits).scatter(-1, self.logits.topk(self.k).indices, 1.0)

    def entropy(self) -> Tensor:
        wide = KSubset(self.k, self.logits.double(), validate_args=False)
        return (wide._log_total() - _mean_of(wide.logits, wide.mean)).to(self.logits.dtype)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        n = self.event_shape[0]
        if not self.has_enumerate_support:
            raise NotImplementedError(f"KSubset: {math.comb(n, self.k)} subsets of {self.k} of {n} items are too many to list")
        items = _subsets(n, self.k).to(self.logits.device)
        values = self.logits.new_zeros((len(items), n)).scatter(1, items, 1.0)
        values = values.reshape((-1,) + (1,) * len(self.batch_shape) + (n,))
        return values.expand((-1, *self.batch_shape, n)) if expand else values


def _mean_of(x: Tensor, p: Tensor) -> Tensor:
    # Minus infinity comes with probability zero, and neither the product nor its derivative is a number.
    return (torch.where(x > -torch.inf, x, 0.0) * p).sum(-1)


def _log_sums(logits: Tensor, k: int) -> Tensor:
    """Logs of the elementary symmetric sums of order 0 to k of the first i of `exp(logits)`: `batch + (n + 1, k + 1)`, float64."""
    logits = logits.double()
    # For an empty sum not minus infinity, which has no derivatives; two of them are still a float.
    empty = torch.finfo(logits.dtype).min / 4
    row = logits.new_full((*logits.shape[:-1], k + 1), empty)
    row[..., 0] = 0.0
    rows = [row]
    for x in logits.unbind(-1):
        taken = torch.cat([torch.full_like(row[..., :1], empty), row[..., :-1] + x.unsqueeze(-1)], -1)
        row = torch.logsumexp(torch.stack([row, taken]), 0)
        rows.append(row)
    return torch.stack(rows, -2)


@lru_cache(maxsize=8)
def _subsets(n: int, k: int) -> Tensor:
    return torch.tensor(list(combinations(range(n), k)), dtype=torch.int64).reshape(math.comb(n, k), k)


@steps.register
def k_subset_steps(d: KSubset) -> Path:
    """From the last item to the first, each is taken with its probability given how many are left to take."""
    n, k = d.event_shape[0], d.k
    logits = d.logits.double()

    def push(eps: Tensor) -> Tensor:
        sums = _log_sums(logits, k)
        # Of item i with j left: what the first i + 1 items add up to with it, over all.
        chance = torch.exp(sums[..., :-1, :-1] + logits.unsqueeze(-1) - sums[..., 1:, 1:])
        chance = torch.cat([torch.zeros_like(sums[..., 1:, :1]), chance], -1).expand((*eps.shape, k + 1))
        left = torch.full(eps.shape[:-1], k, device=eps.device)
        taken = []
        for i in reversed(range(n)):
            take = eps[..., i] < chance[..., i, :].gather(-1, left.unsqueeze(-1)).squeeze(-1)
            taken.append(take)
            left = left - take.long()
        return torch.stack(taken[::-1], -1).to(d.logits.dtype)

    return Path(Noise(UNIFORM, logits.shape, torch.float64, logits.device), push)


@register_kl(KSubset, KSubset)  # type: ignore[untyped-decorator]
def _kl(p: KSubset, q: KSubset) -> Tensor:
    if (p.k, p.event_shape) != (q.k, q.event_shape):
        raise ValueError(f"subsets of {p.k} of {p.event_shape[0]} and of {q.k} of {q.event_shape[0]} items have nothing in common")
    mean = KSubset(p.k, p.logits.double(), validate_args=False).mean
    beyond = ((q.logits == -torch.inf) & (mean > 0)).any(-1)
    divergence = _mean_of(p.logits.double(), mean) - p._log_total() - _mean_of(q.logits.double(), mean) + q._log_total()
    return torch.where(beyond, torch.inf, divergence).to(p.logits.dtype)
