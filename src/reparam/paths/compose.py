"""Paths of distributions that are made of others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.distributions import ComposeTransform, ExpTransform, Independent, Transform, TransformedDistribution

from reparam.paths.path import Path, path, representable
from reparam.special import normal_exp


@path.register
def independent_path(d: Independent) -> Path:  # type: ignore[type-arg]
    """The path of the base: which dimensions count as event does not matter to a draw."""
    return path.part(d.base_dist)


def _steps(transforms: Iterable[Transform]) -> Iterator[Transform]:
    """The transforms one by one, with those of compositions."""
    for transform in transforms:
        if isinstance(transform, ComposeTransform) and not transform._cache_size:
            yield from _steps(transform.parts)
        else:
            yield transform


@path.register
def transformed_path(d: TransformedDistribution) -> Path:
    """The path of the base, then the transforms.

    A value that rounding put on the edge of what a step can give is moved inside, where `log_prob` is finite, and none leaves
    the floats; a transform that caches remembers the exact inverse, so its value is left alone.
    """
    base, transforms = path.part(d.base_dist), list(_steps(d.transforms))

    def forward(x: Tensor) -> Tensor:
        for transform in transforms:
            if transform._cache_size:
                x = transform(x)
            else:
                x = representable(normal_exp(x) if type(transform) is ExpTransform else transform(x), transform.codomain)
        return x

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        return forward(base.sample(rows, generator))  # type: ignore[misc]

    def pull(x: Tensor) -> Tensor:
        for transform in reversed(transforms):
            x = transform.inv(x)
        return base.pull(x)  # type: ignore[misc]

    invertible = base.pull is not None and all(transform.bijective for transform in transforms)
    return Path(
        base.noise,
        lambda eps: forward(base.push(eps)),
        pull if invertible else None,
        None if base.sample is None else sample,
    )
