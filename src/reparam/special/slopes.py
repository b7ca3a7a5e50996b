"""A value with the derivatives that are given for it: how a function computed by other means enters the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch._C import _functorch

__all__ = ["with_slopes"]

Slopes = Callable[..., tuple[Tensor, ...]]


def with_slopes(value: Tensor, slopes: Slopes, *args: Tensor) -> Tensor:
    """`value`, taken as a function of `args` whose partial derivatives are `slopes(value, *args)`.

    Everything is elementwise after broadcasting. The slopes see the value as a function of the arguments again, so that
    derivatives of any order follow as long as `slopes` is made of differentiable functions; it is called when a derivative is
    asked for, never before. Where `value` is a sample and the slopes are `-(dF/d arg) / p`, this is implicit
    reparameterization (arXiv:1805.08498).

    Args:
        value: computed in any way, without regard to gradients; the gradient of its own graph is cut.
        slopes: from the value and the arguments, all of the broadcast shape, to one partial derivative for each argument.
        args: what the value is a function of.

    Raises:
        NotImplementedError: for forward mode over forward mode, which torch gets wrong in silence for any function of one's own.

    Example:
        >>> import torch
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> root = with_slopes(a.detach().sqrt(), lambda root, a: (0.5 / root,), a)
        >>> bool(torch.autograd.grad(root, a)[0].isclose(0.5 / root))
        True
    """
    operands = torch.broadcast_tensors(value.detach(), *args)
    if torch.compiler.is_compiling():
        # Dynamo cannot trace a function of one's own where no gradient is asked for.
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in operands[1:])):
            return cast(Tensor, operands[0].clone())
        return cast(Tensor, _Reverse.apply(slopes, *operands))
    if _forward_levels() > 1:
        raise NotImplementedError(
            "forward mode over forward mode goes wrong in torch for functions that bring their own derivative: "
            "use torch.func.hessian or jacfwd over jacrev"
        )
    return cast(Tensor, _Both.apply(slopes, *operands))


def _forward_levels() -> int:
    stack = _functorch.get_interpreter_stack() or ()
    return sum(level.key() == _functorch.TransformType.Jvp for level in stack)


class _Reverse(torch.autograd.Function):
    """In reverse mode: what `torch.compile` can trace."""

    generate_vmap_rule = True

    @staticmethod
    def forward(slopes: Slopes, value: Tensor, *args: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        slopes, _, *args = inputs
        ctx.slopes = slopes
        ctx.save_for_backward(output, *args)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        partial = ctx.slopes(*ctx.saved_tensors)
        needed = ctx.needs_input_grad[2:]
        return None, None, *(gradient * s if need else None for s, need in zip(partial, needed, strict=True))


class _Both(_Reverse):
    """In reverse and in forward mode."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _Reverse.setup_context(ctx, inputs, output)
        ctx.save_for_forward(output, *inputs[2:])

    @staticmethod
    def jvp(ctx: Any, _slopes: None, _value: None, *tangents: Tensor | None) -> Any:
        partial = ctx.slopes(*ctx.saved_tensors)
        moving = [s * t for s, t in zip(partial, tangents, strict=True) if t is not None]
        return sum(moving[1:], moving[0])
