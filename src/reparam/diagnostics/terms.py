"""What a gradient is a sum of: how large its terms are decides which of its digits are rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators import Estimator, Pathwise, Score, expect

__all__ = ["Terms", "rounding", "terms"]

_ROWS, _TIMES = 32, 4
# Units in the last place of the terms that a sum of them may be off by.
_PLACES = 8


@dataclass(frozen=True)
class Terms:
    """What samples of a cost say of the gradient's arithmetic.

    Attributes:
        size: the root mean square of the terms f(z) ∇ log q(z), or f'(z) ∇z where those are larger, in the largest element.
        constant: whether the cost was the same at all samples, though they differed.
    """

    size: float
    constant: bool


def terms(f: Callable[[Tensor], Tensor], q: Distribution, parameters: Sequence[Tensor]) -> Terms:
    """Look at a few samples. The terms are summed with random signs, so that they do not cancel."""
    values: list[Tensor] = []
    costs: list[Tensor] = []

    def signed(z: Tensor) -> Tensor:
        cost = f(z)
        values.append(z.detach())
        costs.append(cost.detach())
        signs = 2 * torch.randint(2, (len(cost),), device=cost.device).to(cost) - 1
        return cost * signs.reshape(-1, *[1] * (cost.dim() - 1))

    def size(estimator: Estimator) -> float:
        try:
            sums = [expect(signed, q, estimator=estimator, n=_ROWS).sum() for _ in range(_TIMES)]
            gradients = [
                torch.autograd.grad(s, list(parameters), retain_graph=True, allow_unused=True, materialize_grads=True) for s in sums
            ]
        except (ValueError, NotImplementedError, RuntimeError):
            return 0.0
        squares = sum(torch.cat([g.double().flatten().cpu() for g in found]).square() for found in gradients)
        largest = float(torch.as_tensor(squares / _TIMES * _ROWS).max().sqrt())
        return largest if largest < float("inf") else 0.0

    found = max(size(Score()), size(Pathwise()))
    spread = max((float((cost - costs[0][:1]).abs().max()) for cost in costs), default=1.0)
    same = spread <= _PLACES * max((torch.finfo(cost.dtype).eps * float(cost.abs().max()) for cost in costs), default=0.0)
    return Terms(found, same and any(bool((z != values[0][:1]).any()) for z in values))


def rounding(size: float, parameters: Sequence[Tensor]) -> float:
    """What a sum of terms of this size may be off by, in the arithmetic of the parameters."""
    return _PLACES * max(torch.finfo(p.dtype).eps for p in parameters) * size
