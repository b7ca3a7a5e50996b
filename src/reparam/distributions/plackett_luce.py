"""The law of Plackett and Luce."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import permutations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from reparam.distributions.law import Discrete
from reparam.noise import EXPONENTIAL, readable
from reparam.paths.discrete import steps
from reparam.paths.path import Path, noise_like

__all__ = ["PlackettLuce"]

_LISTED = 65536


class _Permutation(Constraint):
    """The numbers from 0 to n - 1 in some order."""

    is_discrete = True
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value.sort(-1).values == torch.arange(value.shape[-1], device=value.device)).all(-1)


class PlackettLuce(Discrete):
    """Orders of n items: the first is drawn with probabilities softmax(logits), each next one likewise from those left.

    A value is the items in their order, int64: `x[..., z]` puts x in order, and `one_hot(z, n)` is the permutation matrix. The
    order of falling `logits` + Gumbel noise has this law; the score function (`rp.LeaveOneOut()`) is unbiased for it.

    Args:
        logits: of shape `batch + (n,)`, finite.

    Raises:
        ValueError: for logits that are not finite.

    Source: Plackett (1975), "The analysis of permutations"; Yellott (1977) for the Gumbel noise.

    Example:
        >>> import torch
        >>> d = PlackettLuce(torch.tensor([2.0, 0.0, 1.0]))
        >>> d.mode, d.sample((7,)).shape
        (tensor([0, 2, 1]), torch.Size([7, 3]))
        >>> round(d.log_prob(d.enumerate_support()).exp().sum().item(), 4)
        1.0
    """

    arg_constraints = {"logits": constraints.real_vector}
    support = _Permutation()
    logits: Tensor

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        if logits.dim() < 1:
            raise ValueError("PlackettLuce takes logits of shape batch + (n,), got one number")
        self.logits = logits
        self.has_enumerate_support = math.factorial(logits.shape[-1]) <= _LISTED
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args)
        if self._validate_args and readable(logits) and not bool(logits.isfinite().all()):
            raise ValueError("PlackettLuce takes finite logits: of two items that never come, neither is before the other")

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        inside = self.support.check(value)
        value = torch.where(inside.unsqueeze(-1), value, torch.arange(value.shape[-1], device=value.device))
        shape = torch.broadcast_shapes(value.shape, self.logits.shape)
        chosen = self.logits.expand(shape).gather(-1, value.long().expand(shape))
        # All of them at once, as torch's logcumsumexp has no second derivatives.
        behind = torch.ones(2 * value.shape[-1:], dtype=torch.bool, device=value.device).triu()
        left = torch.where(behind, chosen.unsqueeze(-2), -torch.inf).logsumexp(-1)
        return torch.where(inside, (chosen - left).sum(-1), -torch.inf)

    @property
    def mode(self) -> Tensor:
        """The items by falling logits."""
        return self.logits.argsort(dim=-1, descending=True, stable=True)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        n = self.event_shape[0]
        if not self.has_enumerate_support:
            raise NotImplementedError(f"PlackettLuce: {n}! orders are too many to list")
        values = _orders(n).to(self.logits.device).reshape((-1,) + (1,) * len(self.batch_shape) + (n,))
        return values.expand((-1, *self.batch_shape, n)) if expand else values.clone()


@lru_cache(maxsize=4)
def _orders(n: int) -> Tensor:
    return torch.tensor(list(permutations(range(n))), dtype=torch.int64).reshape(math.factorial(n), n)


@steps.register
def plackett_luce_steps(d: PlackettLuce) -> Path:
    """The order of falling `logits - log eps`."""
    logits = d.logits.double()
    return Path(noise_like(logits, EXPONENTIAL), lambda eps: (logits - eps.log()).argsort(-1, descending=True))
