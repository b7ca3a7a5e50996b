"""Data sets of torch, `torch.utils.data.Dataset`, brought into memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from reparam.data.check import check_room
from reparam.data.dataset import Data, Values
from reparam.data.recorded import Record
from reparam.data.sequences import Actions, Layout, check_options, from_records
from reparam.data.tensors import from_tensor, recorded
from reparam.errors import BadInputError

__all__ = ["from_dataset"]


def from_dataset(
    dataset: Dataset[Any],
    *,
    name: str,
    response: bool = False,
    values: Values | None = None,
    levels: int | None = None,
    layout: Layout = "auto",
    window: int | None = None,
    actions: Actions = "taken",
) -> Data:
    """A data set from one of torch that has a length: each item a tensor or array, or a pair of one and its label or response.

    Every item is read once, in order, and kept: transforms that draw anew at each access are drawn this once.

    Args:
        dataset: with `__len__` and `__getitem__`.
        name: what reports call it.
        response: whether the second of a pair is not a label but reals that are to be predicted.
        values: as [`from_tensor`][reparam.data.from_tensor] has it.
        levels: likewise.
        layout: "sequence": each item is a recording, T x D or T + the shape of a picture, of its own length; or a dictionary of one
            and what comes beside it, by the names that `from_tensor` knows: {"observation": T + 1 x D, "action": T x A}.
        window: of sequences, as `from_tensor` has it.
        actions: likewise.

    Raises:
        BadInputError: for a data set without a length or items, for items of different shapes, for what is no tensor; and as
            `from_tensor` has it.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from reparam.data import from_dataset
        >>> data = from_dataset(TensorDataset(torch.rand(10, 3), torch.arange(10) % 2), name="pairs")
        >>> len(data), data.shape, data.classes
        (10, torch.Size([3]), ('0', '1'))
    """
    check_options(layout, window, actions)
    if not hasattr(dataset, "__len__"):
        raise BadInputError(f"{name} has no length: give a data set with __len__ and __getitem__, or stack its items yourself")
    n = len(dataset)
    if not n:
        raise BadInputError(f"{name} is empty: at least one item is wanted")
    if layout == "sequence":
        if response:
            raise BadInputError("sequences have no response: what comes beside their steps is given by name, in a dictionary")
        return _sequences(dataset, n, name, {"values": values, "levels": levels, "window": window, "actions": actions})
    items: list[Tensor] = []
    labels: list[Any] = []
    for i in range(n):
        item = dataset[i]
        pair = isinstance(item, tuple | list)
        if pair and len(item) not in (1, 2):
            raise BadInputError(f"item {i} of {name} has {len(item)} parts: a datum, or a datum and its label, are wanted")
        x = _tensor(item[0] if pair else item, f"item {i} of {name}")
        if items and x.shape != items[0].shape:
            raise BadInputError(f"item {i} of {name} has shape {tuple(x.shape)}, the first {tuple(items[0].shape)}: one is wanted")
        if not items:
            check_room(5 * x.numel() * n, name)
        items.append(x)
        labels += [item[1]] if pair and len(item) == 2 else []
    if labels and len(labels) != n:
        raise BadInputError(f"{len(labels)} of the {n} items of {name} have labels: all or none are wanted")
    y = np.array([np.asarray(label) for label in labels]) if labels else None
    given: dict[str, Any] = {"response": y} if response else {"y": y}
    return from_tensor(torch.stack(items), **given, name=name, values=values, levels=levels)


def _sequences(dataset: Any, n: int, name: str, given: Mapping[str, Any]) -> Data:
    """Each item a recording, or a pair of one and its label."""
    found: list[Record] = []
    labels: list[Any] = []
    titles: dict[str, str] = {}
    for i in range(n):
        item = dataset[i]
        pair = isinstance(item, tuple | list)
        if pair and len(item) not in (1, 2):
            raise BadInputError(f"item {i} of {name} has {len(item)} parts: a recording, or one and its label, are wanted")
        one = item[0] if pair else item
        arrays = {key: _tensor(value, f"{key!r} of item {i} of {name}") for key, value in _named(one).items()}
        made, kinds, label = recorded(arrays, f"item {i} of {name}", long=True)
        if label is not None:
            raise BadInputError(f"item {i} of {name} has a label among its arrays: give a pair, the recording and its label")
        titles |= {role: kind.replace(f"item {i} of ", "") for role, kind in kinds.items()}  # indices name the item
        found += [record._replace(row=i, at=(i,)) for record in made]
        labels += [item[1]] if pair and len(item) == 2 else []
    if labels and len(labels) != n:
        raise BadInputError(f"{len(labels)} of the {n} items of {name} have labels: all or none are wanted")
    y = np.array([np.asarray(label) for label in labels]) if labels else None
    return from_records(found, titles, name=name, source=name, y=y, **given)


def _named(item: Any) -> Mapping[str, Any]:
    return item if isinstance(item, Mapping) else {"observation": item}


def _tensor(value: object, title: str) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray | np.generic | int | float):
        raise BadInputError(f"{title} is of {type(value).__name__}: a tensor or an array is wanted (a transform makes one)")
    try:
        return torch.as_tensor(value.astype(value.dtype.newbyteorder("="), copy=False) if isinstance(value, np.ndarray) else value)
    except TypeError as error:
        raise BadInputError(f"{title} has no numbers: {error}") from error
