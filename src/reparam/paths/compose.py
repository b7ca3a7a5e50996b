"""Paths of distributions that are made of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import cast

import torch
from torch import Tensor
from torch.distributions import (
    ComposeTransform,
    ExpTransform,
    Independent,
    StickBreakingTransform,
    Transform,
    TransformedDistribution,
)
from torch.nn.functional import logsigmoid, pad

from reparam.paths.path import Path, path, representable
from reparam.special import normal_exp

__all__ = ["STEPS", "step", "steps"]


@path.register
def independent_path(d: Independent) -> Path:  # type: ignore[type-arg]
    """The path of the base: which dimensions count as event does not matter to a draw."""
    return path.part(d.base_dist)


def steps(transforms: Iterable[Transform]) -> Iterator[Transform]:
    """The transforms one by one, with those of compositions."""
    for transform in transforms:
        if isinstance(transform, ComposeTransform) and not transform._cache_size:
            yield from steps(transform.parts)
        else:
            yield transform


def _break_stick(transform: Transform, x: Tensor) -> Tensor:
    """`log y_k = log s_k + sum_{j<k} log(1 - s_j)`, `s = sigmoid(x - log offset)`: pieces below the spacing of one stay apart."""
    logit = x - torch.arange(x.shape[-1], 0, -1, dtype=x.dtype, device=x.device).log()
    return normal_exp(pad(logsigmoid(logit), [0, 1]) + pad(logsigmoid(-logit).cumsum(-1), [1, 0]))


# What torch's own formula would round away, by exact class: a subclass may compute something else.
STEPS: dict[type[Transform], Callable[[Transform, Tensor], Tensor]] = {
    ExpTransform: lambda transform, x: normal_exp(x),
    StickBreakingTransform: _break_stick,
}


def step(transform: Transform, x: Tensor) -> Tensor:
    """The transform of `x`.

    A value that rounding put on the edge of what the transform can give is moved inside, where `log_prob` is finite, and none
    leaves the floats; a transform that caches remembers the exact inverse, so its value is left alone.
    """
    if transform._cache_size:
        return cast(Tensor, transform(x))
    return representable(_apply(transform, x), transform.codomain)


def _apply(transform: Transform, x: Tensor) -> Tensor:
    own = STEPS.get(type(transform))
    return cast(Tensor, transform(x)) if own is None else own(transform, x)


@path.register
def transformed_path(d: TransformedDistribution) -> Path:
    """The path of the base, then the transforms."""
    base, transforms = path.part(d.base_dist), list(steps(d.transforms))

    def forward(x: Tensor) -> Tensor:
        for transform in transforms:
            x = step(transform, x)
        return x

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        return forward(base.sample(rows, generator))  # type: ignore[misc]

    def pull(x: Tensor) -> Tensor:
        for transform in reversed(transforms):
            x = _apply(transform.inv, x)
        return base.pull(x)  # type: ignore[misc]

    invertible = base.pull is not None and all(transform.bijective for transform in transforms)
    return Path(
        base.noise,
        lambda eps: forward(base.push(eps)),
        pull if invertible else None,
        None if base.sample is None else sample,
    )
