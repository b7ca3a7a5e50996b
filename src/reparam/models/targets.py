"""Unnormalised densities for a flow to be fitted to, by name, and the user's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches

import torch
from torch import Tensor

from reparam.errors import BadInputError
from reparam.named import call

__all__ = ["TARGETS", "Target", "given", "target"]

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Target:
    """A density that is known but for its integral.

    Attributes:
        dim: number of variables.
        log_density: from points, rows + (dim,), to the log of the unnormalised density there, rows; differentiable.
        log_normaliser: the log of its integral, where that is known: what the evidence lower bound rises to.
        text: what it is, in a sentence.
        name: what settings call it.
    """

    dim: int
    log_density: Callable[[Tensor], Tensor]
    log_normaliser: float | None = None
    text: str = ""
    name: str = ""


def _normal(x: Tensor, log_scale: Tensor | float = 0.0) -> Tensor:
    """`log N(x; 0, exp(log_scale)^2)`."""
    scaled = x * torch.as_tensor(-log_scale, dtype=x.dtype, device=x.device).exp()
    return -0.5 * (scaled.square() + _LOG_2PI) - log_scale


def _funnel(x: Tensor) -> Tensor:
    log_scale = x[..., 0] / 2
    # Beyond, where no mass is, the slope of the exponential would leave the floats.
    log_scale = log_scale.clamp(-15, 15)
    return _normal(x[..., 0], math.log(3.0)) + _normal(x[..., 1:], log_scale[..., None]).sum(-1)


def _banana(x: Tensor) -> Tensor:
    return _normal(x[..., 0], math.log(2.0)) + _normal(x[..., 1] - (x[..., 0].square() - 4) / 2)


def _ring(x: Tensor) -> Tensor:
    # The radius of a point at the centre has no slope.
    return -0.5 * ((x.square().sum(-1) + 1e-12).sqrt() - _RADIUS).square() / _WIDTH**2


def _mixture(x: Tensor) -> Tensor:
    angle = torch.arange(_MODES, dtype=x.dtype, device=x.device) * (2 * math.pi / _MODES)
    centres = 3 * torch.stack([angle.cos(), angle.sin()], -1)
    return _normal(x[..., None, :] - centres, math.log(0.5)).sum(-1).logsumexp(-1)


_RADIUS, _WIDTH, _MODES = 3.0, 0.3, 5


def _ring_normaliser() -> float:
    """`log` of `2 pi` times the integral of `r exp(-(r - R)^2 / 2 s^2)` over r > 0."""
    ratio = _RADIUS / _WIDTH
    outside = _RADIUS * math.sqrt(math.pi / 2) * math.erfc(-ratio / math.sqrt(2))
    return math.log(2 * math.pi * _WIDTH * (_WIDTH * math.exp(-(ratio**2) / 2) + outside))


#: The targets, by their name on the command line.
TARGETS = {
    "funnel": Target(10, _funnel, 0.0, "Neal's funnel: x0 ~ N(0, 3²), nine others ~ N(0, exp(x0)) (Neal 2003, section 8)"),
    "banana": Target(2, _banana, 0.0, "a banana: x0 ~ N(0, 2²), x1 ~ N((x0² − 4) / 2, 1) (Haario et al. 1999)"),
    "ring": Target(2, _ring, _ring_normaliser(), "a ring of radius 3 and width 0.3, not normalised"),
    "mixture": Target(2, _mixture, math.log(_MODES), "five normals of width 0.5 on a circle of radius 3, not normalised"),
}
TARGETS = {name: replace(found, name=name) for name, found in TARGETS.items()}

# What the user has named in this process. A name in a file alone never imports anything.
_OWN: dict[str, Target] = {}


def target(name: str) -> Target:
    """A standard target, or what the user's `module:function` returns.

    That function takes nothing and returns `(log_density, dim)` or `(log_density, dim, log_normaliser)`. Its module is imported
    from the current folder or from where Python looks: only because the user named it. A name that a file gives is for
    [`given`][reparam.models.targets.given].

    Raises:
        BadInputError: for an unknown target; for a module or function that is not there, fails, or returns something else; for a
            log-density that does not give a number a row.

    Example:
        >>> target("ring").dim
        2
    """
    if ":" not in name:
        if name not in TARGETS:
            near = get_close_matches(name, TARGETS, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise BadInputError(
                f"there is no target {name}: {hint}give one of {', '.join(TARGETS)}, or MODULE:FUNCTION of your own"
            )
        return TARGETS[name]
    made = call(name)
    if (
        not isinstance(made, tuple)
        or len(made) not in (2, 3)
        or not callable(made[0])
        or not isinstance(made[1], int)
        or made[1] < 1
    ):
        came = f"({', '.join(type(part).__name__ for part in made)})" if isinstance(made, tuple) else type(made).__name__
        raise BadInputError(f"{name} returned {came}: it must return (log_density, dim) or (log_density, dim, log_normaliser)")
    found = Target(made[1], made[0], made[2] if len(made) > 2 else None, f"the density of {name}", name)
    _check(found)
    _OWN[name] = found
    return found


def given(name: str) -> Target | None:
    """The target of a name that a file gives: a standard one, or one that the user has named in this process; else None."""
    return TARGETS.get(name) or _OWN.get(name)


def _check(found: Target) -> None:
    """Two points tell most faults before a step is made."""
    x = torch.stack([torch.zeros(found.dim), torch.linspace(-1, 1, found.dim)])
    try:
        value = found.log_density(x)
    except Exception as error:  # whatever the user's code does
        raise BadInputError(
            f"{found.name}: log_density fails with {type(error).__name__} on a 2 x {found.dim} tensor: {error}"
        ) from error
    if not isinstance(value, Tensor) or value.shape != (2,) or not value.is_floating_point():
        came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise BadInputError(f"{found.name}: log_density of a 2 x {found.dim} tensor is of {came}: give a number a row")
