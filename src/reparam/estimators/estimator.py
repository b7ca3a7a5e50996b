"""The contract of gradient estimators: draw rows, weigh costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Number
from operator import index
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.noise import Source
from reparam.paths.parameters import forget_derived

__all__ = ["Draw", "Estimator", "check_cost", "check_estimator", "check_rows", "expect", "sum_to_cost"]


@dataclass(frozen=True)
class Draw:
    """The rows at which a cost is to be evaluated.

    Attributes:
        value: `rows + batch + event`, with one dimension of rows.
        batch_shape: the batch of the distribution.
        log_prob: log-probability of each row, `rows + batch`, differentiable in the parameters; where it is needed.
        weight: probability of each row, likewise.
    """

    value: Tensor
    batch_shape: torch.Size
    log_prob: Tensor | None = None
    weight: Tensor | None = None


class Estimator(Protocol):
    """How to estimate E[f(z)], z ~ q, and its gradient in the parameters of q.

    Two methods make one. `draw` gives the rows at which f is evaluated, once, on all of them; `weigh` turns the costs into a
    tensor whose value estimates E[f] and whose gradient estimates the gradient of E[f]. As both are estimates of
    the true ones, estimators nest: what one returns is again a cost for another.
    """

    @property
    def bias(self) -> str | None:
        """None when unbiased; otherwise one sentence that says how it is biased."""
        ...

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        """The rows at which f must be evaluated; `n` of them unless the estimator says otherwise."""
        ...

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        """The estimate of E[f], of the shape of `cost` without its rows."""
        ...


def expect(
    f: Callable[[Tensor], Tensor],
    q: Distribution,
    *,
    estimator: Estimator | None = None,
    n: int = 1,
    source: Source | None = None,
) -> Tensor:
    """An estimate of E[f(z)], z ~ q, whose gradient is an estimate of the gradient of E[f(z)].

    The gradient covers the parameters of `q` and everything else that `f` depends on.

    Args:
        f: from samples of shape `rows + batch + event` to costs of shape `rows + a leading part of batch`. Log-probabilities of the
            batch dimensions that `f` sums away are summed too. Keeping the batch gives every element credit for its own
            cost only, which lowers the variance of score-function estimators a great deal; an enumerated law needs it.
        q: the distribution of z.
        estimator: how to estimate; by default what `rp.choose(q, n)` picks and explains.
        n: the number of rows.
        source: where the noise comes from; fresh noise by default.

    Returns:
        The estimate, of the shape of the cost without its rows.

    Raises:
        ValueError: for a cost of another shape, showing both shapes.
        TypeError: for what is no distribution, estimator, number of rows or floating-point cost.

    Example:
        >>> import torch, reparam as rp
        >>> logits = torch.zeros(3, requires_grad=True)
        >>> loss = rp.expect(lambda z: (z - 0.45) ** 2, torch.distributions.Bernoulli(logits=logits), n=8)
        >>> loss.sum().backward()          # exact: two values are enumerated
        >>> torch.allclose(logits.grad, torch.full((3,), 0.025))
        True
    """
    if not isinstance(q, Distribution):
        raise TypeError(f"q must be a torch.distributions.Distribution, got {q!r}")
    n = check_rows(n, "the number of rows n")
    if estimator is None:
        from reparam.estimators.choose import choose

        estimator = choose(q, n, source).estimator
    forget_derived(q)
    draw = check_estimator(estimator).draw(q, n, source)
    cost = f(draw.value)
    check_cost(cost, draw.value.shape[:1], draw.batch_shape)
    return estimator.weigh(draw, cost)


def check_rows(n: object, what: str) -> int:
    """`n` as a positive `int`; `what` names it in the error."""
    if isinstance(n, bool) or not hasattr(n, "__index__") or index(n) < 1:
        raise ValueError(f"{what} must be a positive integer, got {n!r}")
    return index(n)


def check_estimator(estimator: Estimator) -> Estimator:
    """Refuse what cannot draw and weigh, an estimator's class among them."""
    if isinstance(estimator, type):
        raise TypeError(f"the estimator is the class {estimator.__name__}: give an instance, {estimator.__name__}()")
    if not (hasattr(estimator, "draw") and hasattr(estimator, "weigh")):
        raise TypeError(
            f"an estimator has the methods draw and weigh, such as rp.Pathwise() or rp.LeaveOneOut(); got {estimator!r}"
        )
    return estimator


def check_cost(cost: object, rows: torch.Size, batch: torch.Size) -> None:
    """Refuse a cost that is not of shape `rows + a leading part of batch`."""
    if not isinstance(cost, Tensor):
        raise TypeError(f"the cost must be a tensor of shape {_shape(rows, batch)}; got {_no_cost(cost)}")
    if not cost.is_floating_point():
        raise TypeError(f"the cost is {cost.dtype}: make it floating point, for example cost.float()")
    if cost.shape != (rows + batch)[: cost.dim()] or cost.dim() < len(rows):
        raise ValueError(
            f"the cost has shape {tuple(cost.shape)}; wanted {_shape(rows, batch)}. Keep the rows, sum the event "
            "dimensions, and sum batch dimensions from the right only"
        )


def _no_cost(came: object) -> str:
    """What came instead of a tensor, and the usual remedy."""
    if came is None:
        return "None: does the function lack its return?"
    if isinstance(came, Distribution):
        return f"{type(came).__name__}, a distribution: the log-density of x is its .log_prob(x)"
    if isinstance(came, Number):
        return f"{type(came).__name__}: keep the tensor, without .item() or float(), and one cost a row"
    return type(came).__name__


def _shape(rows: torch.Size, batch: torch.Size) -> str:
    return f"rows {tuple(rows)} + a leading part of batch {tuple(batch)}"


def sum_to_cost(per_element: Tensor, cost: Tensor) -> Tensor:
    """Sum the trailing batch dimensions of a `rows + batch` tensor that `cost` has summed away."""
    gone = tuple(range(cost.dim(), per_element.dim()))
    return per_element.sum(gone) if gone else per_element
