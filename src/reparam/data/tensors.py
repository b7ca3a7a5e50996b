"""Tensors and arrays that are in memory, as data sets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.data.dataset import Array, Data, Part, Values, assemble
from reparam.data.recorded import Record, records
from reparam.data.roles import find_roles
from reparam.data.sequences import Actions, Layout, check_options, from_records
from reparam.errors import BadInputError

__all__ = ["from_tensor", "recorded"]

NOTHING: Mapping[str, Any] = MappingProxyType({})


def from_tensor(
    x: Tensor | Array,
    y: Tensor | Array | None = None,
    *,
    response: Tensor | Array | None = None,
    name: str = "data",
    values: Values | None = None,
    levels: int | None = None,
    layout: Layout = "auto",
    beside: Mapping[str, Tensor | Array] = NOTHING,
    window: int | None = None,
    actions: Actions = "taken",
) -> Data:
    """A data set from tensors or arrays, with the checks that files get.

    Args:
        x: N + (D,) vectors, N + (H, W) or N + (C, H, W) or N + (H, W, C) images, of any real dtype.
        y: N whole numbers, or in an array N texts.
        response: N or N x K reals that are to be predicted.
        name: what reports call it.
        values: what the numbers are. None decides: only 0 and 1 are binary, whole numbers 0..255 are counts, others are real.
        levels: the largest possible count. None takes the largest value, or 255 for bytes above 16.
        layout: "sequence" reads x as N sequences of T steps, N x T x D, N x T x H x W, N x T x C x H x W or N x T x H x W x C, or
            as one long recording, T x D; "auto" as rows.
        beside: of sequences, what comes with their steps, by the names that the arrays of a file have (see
            [`load`][reparam.data.load]), as {"action": N x T x A, "reward": N x T}.
        window: of sequences, cut them into windows of at most so many steps, as few and as equal as can be.
        actions: of sequences: "taken", action t was taken at observation t; "led", it led there.

    Raises:
        BadInputError: for a shape that is none of these, for NaN and infinite values, for values that are not what `values` says.

    Example:
        >>> import torch
        >>> from reparam.data import from_tensor
        >>> data = from_tensor(torch.tensor([[0, 3], [5, 2]]), name="tallies")
        >>> data.values, data.levels, data.scaling
        ('counts', 5, 'values are counts 0..5; the encoder sees x / 5')
        >>> path = torch.tensor([[0.5], [1.5], [3.5]])
        >>> walk = from_tensor(path, layout="sequence", beside={"action": torch.tensor([[1.0], [2.0]])}, name="walk")
        >>> walk.shape, walk.beside["action"].tolist()  # the action that led to each step
        (torch.Size([3, 1]), [[[0.0], [1.0], [2.0]]])
    """
    check_options(layout, window, actions)
    if layout == "sequence":
        if response is not None:
            raise BadInputError("sequences have no response: what comes beside their steps is given with beside")
        found, titles, labels = recorded({"observation": x, **beside, **({} if y is None else {"label": y})}, name)
        given: dict[str, Any] = {"values": values, "levels": levels, "window": window, "actions": actions}
        return from_records(found, titles, name=name, source=name, y=labels, **given)
    if beside:
        raise BadInputError("beside is of sequences: give layout='sequence' too")
    array, labels, reals = map(to_array, (x, y, response))
    return assemble(
        {"train": Part(np.asarray(array), labels, "the tensor", response=reals)},
        name=name,
        source=name,
        values=values,
        levels=levels,
    )


def recorded(given: Mapping[str, Any], name: str, *, long: bool | None = None) -> tuple[list[Record], dict[str, str], Array | None]:
    """The sequences in arrays by name, or in one `long` recording; what messages call the arrays; and the labels."""
    roles = find_roles(list(given), name)
    found = {role: np.asarray(to_array(given[named])) for role, named in roles.items()}
    titles = {role: f"{named!r} of {name}" for role, named in roles.items()}
    y = found.pop("label", None)
    return records(found, titles, long=long), titles, y


def to_array(given: Tensor | Array | None) -> Array | None:
    """A tensor as an array of a type that arrays have."""
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        return (given.float() if given.dtype in (torch.bfloat16, torch.float16) else given).numpy()
    return None if given is None else np.asarray(given)
