"""A torch distribution whose own methods sample by our paths."""

from __future__ import annotations

import copy
import types
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.noise import as_rows
from reparam.paths.path import OwnSamplerError, path

__all__ = ["reparameterized"]

D = TypeVar("D", bound=Distribution)


def reparameterized(d: D) -> D:
    """A copy of `d` for code that calls `.rsample()` itself; its samples are those of `rp.rsample(d, ...)`.

    The copy's class is a subclass of that of `d`, so `isinstance`, `kl_divergence`, `expand` and `Independent` treat it as `d`.

    Raises:
        NoPathError: when `d` has no differentiable sampler.

    Example:
        >>> import torch, reparam as rp
        >>> q = rp.reparameterized(torch.distributions.Gumbel(torch.zeros(3), 1.0))
        >>> q.has_rsample, q.expand((2, 3)).rsample((5,)).shape
        (True, torch.Size([5, 2, 3]))
    """
    with suppress(OwnSamplerError):
        path(d)
    new = copy.copy(d)
    new.__class__ = _delegate(type(d))  # type: ignore[assignment, arg-type]
    return new


@cache
def _delegate(cls: type[Distribution]) -> type[Distribution]:
    """The subclass of `cls` whose `rsample` and `sample` go by its path, or by the sampler of `cls` where it has none."""
    if "_reparameterized" in vars(cls):
        return cls

    def own_rsample(self: Distribution, sample_shape: Any = ()) -> Tensor:
        try:
            p = path(self)
        except OwnSamplerError:
            return cls.rsample(self, as_rows(sample_shape, self.batch_shape + self.event_shape))
        return p.draw(sample_shape)

    def own_sample(self: Distribution, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return own_rsample(self, sample_shape)

    def reduce(self: Distribution) -> tuple[Any, ...]:
        plain = object.__new__(cls)
        plain.__dict__.update(vars(self))
        return reparameterized, (plain,)

    methods = {
        "has_rsample": True,
        "rsample": own_rsample,
        "sample": own_sample,
        "__reduce__": reduce,  # pickle finds classes by name, and this one has that of `cls`
        "_reparameterized": cls,
    }
    # The class keeps its name: it is what users and messages know the law by.
    return types.new_class(cls.__name__, (cls,), exec_body=lambda namespace: namespace.update(methods))
