"""A control variate whose expectation has a pathwise gradient: its part in the estimate, and how it is learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor, nn
from torch.func import functional_call

from reparam.estimators.estimator import Draw, sum_to_cost
from reparam.estimators.surrogate import descend, magic

__all__ = ["Controlled", "Surrogate", "apart", "check_scale", "check_surrogate", "controlled", "others"]

Surrogate = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Controlled(Draw):
    """A draw with values for the control variate.

    Attributes:
        soft: values that follow the parameters, then as many that do so given the rows, `2 n + batch + event`.
        parameters: the gradient in them is what has the variance.
        temperature: the soft values are made with it; a leaf of its own where it is learned.
        independent: whether the rows are, of each other.
    """

    soft: Tensor | None = None
    parameters: tuple[Tensor, ...] = ()
    temperature: float | Tensor = 1.0
    independent: bool = True


def controlled(
    draw: Draw, cost: Tensor, temperature: float | Tensor, scale: float | Tensor | None, surrogate: Surrogate | None
) -> Tensor:
    """The estimate with the control variate `scale` × cost, evaluated in rows of its own unless None, + surrogate."""
    if not isinstance(draw, Controlled) or draw.soft is None or draw.log_prob is None:
        raise ValueError("this draw has no relaxed values: weigh it with the estimator that drew it")
    learned = {"the temperature": _pair(temperature, draw.temperature)}
    n = len(draw.soft) // 2
    if len(cost) != (n if scale is None else 3 * n):
        raise ValueError(f"{len(cost)} costs of {n} samples: weigh a draw with the estimator that drew it")
    hard, control = cost[:n], cost.new_zeros(())
    if scale is not None:
        own = apart(scale.reshape(()) if isinstance(scale, Tensor) else scale)
        learned["the scale"] = _pair(scale, own)
        control = own * cost[n:]
    if surrogate is not None:
        copies: dict[str, Tensor] = {}
        if isinstance(surrogate, nn.Module):
            given: dict[str, Tensor] = {name: p for name, p in surrogate.named_parameters() if p.requires_grad}
            copies = {name: _leaf(p) for name, p in given.items()}
            learned["the surrogate"] = [(given[name], copies[name]) for name in given]
        control = control + _surrogate_of(surrogate, copies, draw, hard)
    free, tied = control.chunk(2)
    # The value is that of the hard rows: the control variate, whose mean is zero, would only add noise to it.
    one = magic(draw.log_prob, hard)
    baseline = others(hard - tied, draw.independent) * (1 - one)
    value = (hard * one + baseline + ((free - tied * one) - (free - tied).detach())).mean(0)
    return _training(value, draw.parameters, {name: pairs for name, pairs in learned.items() if pairs})


def others(residual: Tensor, independent: bool) -> Tensor:
    """The mean over the other rows, a baseline for each row where it is independent of them; otherwise zero."""
    if len(residual) < 2 or not independent:
        return torch.zeros_like(residual)
    return (residual.sum(0, keepdim=True) - residual) / (len(residual) - 1)


def _surrogate_of(surrogate: Surrogate, parameters: dict[str, Tensor], draw: Controlled, cost: Tensor) -> Tensor:
    soft, batch = draw.soft, draw.batch_shape
    c = functional_call(surrogate, parameters, (soft,)) if isinstance(surrogate, nn.Module) else surrogate(soft)  # type: ignore[arg-type]
    wanted = soft.shape[:1] + batch  # type: ignore[union-attr]
    if not isinstance(c, Tensor) or c.shape != wanted[: c.dim()] or c.dim() < cost.dim():
        came = f"the shape {tuple(c.shape)}" if isinstance(c, Tensor) else f"a {type(c).__name__}"
        raise ValueError(
            f"the surrogate returned {came} for values of shape {tuple(soft.shape)}; wanted rows + batch, "  # type: ignore[union-attr]
            f"{tuple(wanted)}: sum over the event, and keep the batch"
        )
    return sum_to_cost(c, cost)


def _training(value: Tensor, parameters: tuple[Tensor, ...], learned: dict[str, list[tuple[Tensor, Tensor]]]) -> Tensor:
    """`value`, with the variance of its gradient in the parameters to be descended in what is learned."""
    parameters = tuple(p for p in parameters if p.requires_grad)
    if not (learned and parameters and torch.is_grad_enabled()):
        return value
    slopes = torch.autograd.grad(value.sum(), parameters, create_graph=True, allow_unused=True)
    # The mean of a gradient is its own, whatever the control variate: its square differs from the variance by a constant.
    loss = sum((s.square().sum() for s in slopes if s is not None), value.new_zeros(())) / max(value.numel(), 1)
    ride = torch.zeros_like(loss)
    for name, pairs in learned.items():
        copies = [copy for _, copy in pairs]
        found = torch.autograd.grad(loss, copies, retain_graph=True, allow_unused=True) if loss.requires_grad else [None]
        if all(slope is None for slope in found):
            raise ValueError(
                f"{name} gets no gradient, because the variance does not depend on it: is it cut from the graph (detach, round, "
                "item), or the cost flat between the values of the law? Let it not require a gradient to keep it as it is"
            )
        ride = ride + sum((p * slope).sum() for (p, _), slope in zip(pairs, found, strict=True) if slope is not None)
    return descend(value, ride)


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()


def apart(x: float | Tensor) -> float | Tensor:
    """What is learned, as a leaf of its own: the gradient of the variance reaches what is learned by `descend`, no other does."""
    return _leaf(x) if isinstance(x, Tensor) and x.requires_grad else x


def _pair(given: float | Tensor, own: float | Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(given, own)] if isinstance(given, Tensor) and isinstance(own, Tensor) and given.requires_grad else []


def check_scale(scale: float | Tensor) -> None:
    """Refuse what is not one number."""
    if not isinstance(scale, Tensor | Real):
        raise TypeError(f"the scale of a control variate is {scale!r}; it must be a number or a tensor of one")
    if isinstance(scale, Tensor) and scale.numel() != 1:
        raise ValueError(f"the scale of a control variate has shape {tuple(scale.shape)}; it must be one number")


def check_surrogate(surrogate: Surrogate) -> None:
    """Refuse what cannot be called, a module's class among them."""
    if isinstance(surrogate, type) or not callable(surrogate):
        raise TypeError(f"the surrogate must be an nn.Module or a function, from values to rows + batch; got {surrogate!r}")
