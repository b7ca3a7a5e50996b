"""How a gradient that was computed apart enters the graph of a value."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from reparam.estimators.estimator import sum_to_cost

__all__ = ["aligned", "descend", "first_order", "magic", "reaches", "straight_through"]


def aligned(cost: Tensor, to: Tensor) -> Tensor:
    """`cost`, of shape rows + a leading part of what `to` has after its rows, with ones for the dimensions that it lacks."""
    return cost.reshape(cost.shape + (1,) * (to.dim() - cost.dim()))


def magic(log_prob: Tensor, cost: Tensor) -> Tensor:
    """One, with the gradient of the log-probability of what each cost depends on, to every order (arXiv:1802.05098)."""
    log_prob = sum_to_cost(log_prob, cost)
    return (log_prob - log_prob.detach()).exp()


def reaches(cost: Tensor, rows: Tensor) -> bool:
    """Whether the gradient of a cost comes back to the rows, where they have one to pass on.

    The graph is walked, and not differentiated. Where there is none to see, under `torch.func` and `torch.compile`, the answer is
    yes for every cost that has a gradient.

    Example:
        >>> import torch
        >>> rows, w = torch.zeros(4, requires_grad=True).exp(), torch.ones(4, requires_grad=True)
        >>> reaches((w * rows).sum(), rows), reaches(w[rows.long()].sum(), rows)
        (True, False)
    """
    if not rows.requires_grad or not cost.requires_grad:
        return not rows.requires_grad
    goal = None if torch.compiler.is_compiling() or any(map(is_functorch_wrapped_tensor, (cost, rows))) else rows.grad_fn
    if goal is None:
        return True
    seen, ahead = set(), [cost.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is goal:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [before for before, _ in node.next_functions]
    return False


def first_order(value: Tensor, theta: Tensor, gradient: Tensor) -> Tensor:
    """`value`, with `gradient` added to its gradient in `theta`. A second derivative through it is refused, not silently zero.

    Args:
        value: an estimate, of any shape S.
        theta: parameters, of shape S + any: each element of the value depends on the parameters in its place only.
        gradient: of each element of the value in its parameters, of the shape of `theta`; taken as constant.

    Raises:
        NotImplementedError: on differentiating twice.

    Example:
        >>> import torch
        >>> theta = torch.zeros(2, 3, requires_grad=True)
        >>> value = first_order(torch.ones(2), theta, torch.full((2, 3), 5.0))
        >>> value.sum().backward()
        >>> bool((value == 1).all() and (theta.grad == 5).all())
        True
    """
    if theta.shape[: value.dim()] != value.shape or gradient.shape != theta.shape:
        raise ValueError(f"value {tuple(value.shape)}, theta {tuple(theta.shape)}, gradient {tuple(gradient.shape)}")
    gradient = gradient.detach()
    if torch.compiler.is_compiling():
        moved = gradient * _still(theta)
        return value + (moved.flatten(value.dim()).sum(-1) if moved.dim() > value.dim() else moved)
    return value + cast(Tensor, _FirstOrder.apply(theta, gradient, value.dim()))


def _still(x: Tensor) -> Tensor:
    """Zero, with the gradient of `x`: what torch.compile can trace, which refuses second derivatives by itself."""
    x = x.nan_to_num()  # a logit of minus infinity
    return x - x.detach()


class _FirstOrder(torch.autograd.Function):
    """Zero, with a given gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(theta: Tensor, gradient: Tensor, dim: int) -> Tensor:
        return theta.new_zeros(theta.shape[:dim])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        theta, gradient, ctx.dim = inputs
        ctx.save_for_backward(theta, gradient)
        ctx.save_for_forward(theta, gradient)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        theta, gradient = ctx.saved_tensors
        upstream = upstream.reshape(upstream.shape + (1,) * (gradient.dim() - ctx.dim))
        return _Last.apply(upstream * gradient, theta), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _gradient: None, _dim: None) -> Any:
        theta, gradient = ctx.saved_tensors
        moved = cast(Tensor, _Last.apply(gradient * tangent, theta))
        return moved.flatten(ctx.dim).sum(-1) if moved.dim() > ctx.dim else moved


def straight_through(value: Tensor, soft: Tensor) -> Tensor:
    """`value`, whose gradient passes to `soft` as if the two were equal. A second derivative through it is refused.

    Args:
        value: what a cost is to be evaluated at; taken as constant.
        soft: what it stands for; broadcasts to the shape of `value`.

    Raises:
        NotImplementedError: on differentiating twice.

    Example:
        >>> import torch
        >>> p = torch.tensor(0.3, requires_grad=True)
        >>> (straight_through(torch.ones(4), p) ** 2).mean().backward()
        >>> p.grad
        tensor(2.)
    """
    value, soft = value.detach(), soft.to(value.dtype).expand(value.shape)
    if torch.compiler.is_compiling():
        return value + _still(soft)
    return cast(Tensor, _StraightThrough.apply(value, soft))


class _StraightThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, soft: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        return None, _Last.apply(upstream, ctx.saved_tensors[0])

    @staticmethod
    def jvp(ctx: Any, _value: None, tangent: Tensor) -> Any:
        return _Last.apply(tangent, ctx.saved_tensors[0])


class _Last(torch.autograd.Function):
    """The first argument, which cannot be differentiated in the second."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, theta: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        raise NotImplementedError(_FIRST_ONLY)

    @staticmethod
    def jvp(ctx: Any, _x: Tensor, _theta: Tensor) -> Any:
        raise NotImplementedError(_FIRST_ONLY)


_FIRST_ONLY = (
    "this gradient estimator gives first derivatives only: for second ones use rp.Enumerate(), rp.LeaveOneOut(), rp.Score() or "
    "rp.Pathwise()"
)


def descend(value: Tensor, loss: Tensor) -> Tensor:
    """`value`, with a `loss` of learned parts of an estimator riding along: zero, with a gradient of its own.

    The loss is descended whether `value` is minimised or, as a bound is, maximised: what arrives at it by `backward` is taken
    without its sign. So one optimiser, over the model's parameters and the estimator's, trains both.

    Example:
        >>> import torch
        >>> b = torch.tensor(3.0, requires_grad=True)
        >>> (-descend(torch.tensor(1.0), (b - 1.0) ** 2)).backward()
        >>> b.grad
        tensor(4.)
    """
    function = _Descend if torch.compiler.is_compiling() else _DescendForward  # a custom jvp cannot be traced
    return value + cast(Tensor, function.apply(loss.expand(value.shape)))


class _Descend(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(loss: Tensor) -> Tensor:
        return torch.zeros_like(loss)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        return upstream.abs()


class _DescendForward(_Descend):
    """Under forward mode too."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Any:
        return torch.zeros_like(tangent)  # the value itself does not move
