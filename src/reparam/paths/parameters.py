"""The tensors that a distribution is made of: walk them, map them, check them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from inspect import getattr_static
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import Transform, _InverseTransform
from torch.distributions.utils import lazy_property

from reparam.noise import readable

__all__ = ["check_distribution", "check_parameters", "detached", "forget_derived", "map_parameters"]

D = TypeVar("D", bound=Distribution)
_Found = list[tuple[str, Tensor, Constraint | None]]


def map_parameters(d: D, f: Callable[[Tensor], Tensor], *, remember: bool = False) -> D:
    """A copy of `d` in which every tensor `t` is `f(t)`, each taken once; `d` itself is left alone.

    Transforms forget their last pair of values, unless asked to `remember` it as it is: of a saturated value, only the
    pair knows the inverse.
    """
    return _map(d, f, remember, {})  # type: ignore[return-value]


def _map(value: Any, f: Callable[[Tensor], Tensor], remember: bool, done: dict[int, object]) -> object:
    if id(value) in done:
        return done[id(value)]
    new: Any
    if isinstance(value, Tensor):
        new = done[id(value)] = f(value)
        return new
    if isinstance(value, Distribution | Transform | nn.Module):
        # All state is in the attributes; a module keeps its tensors in dictionaries there, where any tensor serves as a parameter.
        new = done[id(value)] = object.__new__(type(value))
        for key, part in vars(value).items():
            if not _is_memory(value, key):
                new.__dict__[key] = _map(part, f, remember, done)
            else:
                new.__dict__[key] = part if remember and key == "_cached_x_y" else _FORGOTTEN[key]
        return new
    if isinstance(value, dict):
        new = copy.copy(value)
        new.update({key: _map(part, f, remember, done) for key, part in value.items()})
        return new
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        return type(value)([_map(part, f, remember, done) for part in value])
    return value


_FORGOTTEN = {"_cached_x_y": (None, None), "_inv": None}


def _is_memory(value: object, key: str) -> bool:
    """Whether an attribute of a transform only remembers: its last value, or its inverse (which an inverse is made of)."""
    return key in _FORGOTTEN and not (key == "_inv" and isinstance(value, _InverseTransform))


def detached(d: D) -> D:
    """The same distribution with its parameters cut from the graph.

    Gradients still flow through values: `detached(q).log_prob(z)` differentiates in `z` and not in the parameters of
    `q`, which is what sticking the landing needs (arXiv:1703.09194).

    Example:
        >>> import torch, reparam as rp
        >>> mu = torch.zeros(2, requires_grad=True)
        >>> rp.detached(torch.distributions.Normal(mu, 1.0)).loc.requires_grad
        False
    """
    check_distribution(d)
    return map_parameters(d, Tensor.detach, remember=True)


def forget_derived(d: Distribution) -> None:
    """Let a law made of logits forget the probabilities that torch computed from them once (or the other way round).

    Parameters may have moved in place since, by a step of an optimiser, and samples would follow the old ones.
    """
    if torch.compiler.is_compiling():
        return
    check_distribution(d)
    while isinstance(d, Independent):
        d = d.base_dist
    held = vars(d)
    if not {"probs", "logits"} <= held.keys():
        return
    # What was given comes first; after an `expand`, `_param` tells.
    given = "logits" if held.get("_param") is held["logits"] else next(key for key in held if key in ("probs", "logits"))
    derived = "probs" if given == "logits" else "logits"
    if isinstance(getattr_static(type(d), derived, None), lazy_property):
        del held[derived]


def check_distribution(d: Distribution) -> None:
    """Refuse what is not a distribution, a class of them among it."""
    if not isinstance(d, Distribution):
        came = f"the class {d.__name__}" if isinstance(d, type) else type(d).__name__
        raise TypeError(f"expected a torch.distributions.Distribution, got {came}")


def check_parameters(d: Distribution) -> set[torch.dtype]:
    """Refuse parameters that no sample can come from, and say which dtypes there are.

    Torch checks constraints when a distribution is made; `real` lets infinities pass. Values are looked at where
    the distribution validates its arguments, on the CPU only: a look at a device's values would wait for the device.
    Minus infinity is a logit of a category that never comes.

    Raises:
        TypeError: when `d` is not a distribution; for parameters that are not floating point. What else a distribution holds,
            such as the order of a permutation, may be of any type.
        ValueError: for NaN and infinities, naming the parameter, the first index and the value.
    """
    check_distribution(d)
    found: _Found = []
    _declared(d, "", found)
    dtypes = set()
    for name, value, constraint in found:
        if not value.is_floating_point():
            if constraint is None:
                continue
            raise TypeError(
                f"{type(d).__name__}: parameter {name} is {value.dtype}; pass it as floating point, for example {name}.float()"
            )
        dtypes.add(value.dtype)
        if d._validate_args and readable(value):
            categories = name.endswith("logits") and constraint is not None and constraint.event_dim == 1
            _check_finite(type(d).__name__, name, value.detach(), categories=categories)
    return dtypes


def _declared(d: Distribution, prefix: str, found: _Found) -> None:
    """The tensors that `d` declares in `arg_constraints`; where it keeps none itself, those of its parts."""
    if isinstance(d, Independent):  # keeps none itself, and is on the way to most draws
        _declared(d.base_dist, prefix, found)
        return
    held = vars(d)
    before = len(found)
    for key, constraint in _constraints(d).items():
        value = held.get(key)
        if isinstance(value, Tensor):
            found.append((prefix + key, value, constraint))
    if len(found) == before:
        for key, value in held.items():
            _parts(value, prefix if key == "base_dist" else f"{prefix}{key}", found)


def _parts(value: object, name: str, found: _Found) -> None:
    if isinstance(value, Tensor):
        found.append((name, value, None))
    elif isinstance(value, Distribution):
        _declared(value, f"{name}." if name and not name.endswith(".") else name, found)
    elif isinstance(value, nn.Module):
        found.extend((f"{name}.{key}", parameter, None) for key, parameter in value.named_parameters())
    elif isinstance(value, Transform):
        for key, part in vars(value).items():
            if not _is_memory(value, key):
                _parts(part, f"{name}.{key}", found)
    elif isinstance(value, dict):
        for key, part in value.items():
            _parts(part, f"{name}[{key!r}]", found)
    elif isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        for index, part in enumerate(value):
            _parts(part, f"{name}[{index}]", found)


def _constraints(d: Distribution) -> dict[str, Constraint]:
    try:
        return d.arg_constraints
    except NotImplementedError:  # a class need not declare any
        return {}


def _check_finite(law: str, name: str, value: Tensor, *, categories: bool) -> None:
    # A sum is poisoned by any NaN or infinity: one pass, no mask. Overflow of the sum only costs the second look.
    if math.isfinite(value.sum().item()):
        return
    bad = value.isnan() | (value == torch.inf) if categories else ~value.isfinite()
    if bad.any():
        index = tuple(bad.nonzero()[0].tolist())
        where = f" at index {index}" if index else ""
        raise ValueError(f"{law}: parameter {name} is {value[index].item()}{where}; samples need finite parameters")
