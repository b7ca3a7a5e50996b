"""Data sets of torch, `torch.utils.data.Dataset`, brought into memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from reparam.data.check import check_room
from reparam.data.dataset import Data, Values, from_tensor
from reparam.errors import BadInputError

__all__ = ["from_dataset"]


def from_dataset(
    dataset: Dataset[Any], *, name: str, response: bool = False, values: Values | None = None, levels: int | None = None
) -> Data:
    """A data set from one of torch that has a length: each item a tensor or array, or a pair of one and its label or response.

    Every item is read once, in order, and kept: transforms that draw anew at each access are drawn this once.

    Args:
        dataset: with `__len__` and `__getitem__`.
        name: what reports call it.
        response: whether the second of a pair is not a label but reals that are to be predicted.
        values: as [`from_tensor`][reparam.data.from_tensor] has it.
        levels: likewise.

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
    if not hasattr(dataset, "__len__"):
        raise BadInputError(f"{name} has no length: give a data set with __len__ and __getitem__, or stack its items yourself")
    n = len(dataset)
    if not n:
        raise BadInputError(f"{name} is empty: at least one item is wanted")
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
    given = {"response": y} if response else {"y": y}
    return from_tensor(torch.stack(items), **given, name=name, values=values, levels=levels)


def _tensor(value: object, title: str) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray | np.generic | int | float):
        raise BadInputError(f"{title} is of {type(value).__name__}: a tensor or an array is wanted (a transform makes one)")
    try:
        return torch.as_tensor(value)
    except TypeError as error:
        raise BadInputError(f"{title} has no numbers: {error}") from error
