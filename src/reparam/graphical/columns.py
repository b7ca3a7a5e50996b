"""From rows of a table to values of nodes, and which of them are observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from reparam.data import Data
from reparam.data.frame import from_frame
from reparam.data.table import TableCodec
from reparam.errors import BadInputError
from reparam.graphical.node import Node

__all__ = ["Columns", "as_data", "columns_of"]


class Columns(nn.Module):
    """The columns of a table as a graphical model sees them.

    A row is D numbers, NaN where one is missing; a category is its place among the names of its column.

    Args:
        nodes: of the model.
        names: of the D columns.
        categories: for each column of categories, their names.

    Attributes:
        places: of each node that has columns, where in a row they are.

    Example:
        >>> from torch.distributions import Normal
        >>> from reparam.graphical.columns import Columns
        >>> from reparam.graphical.node import Node
        >>> columns = Columns({"size": Node("size", lambda: Normal(0.0, 1.0))}, ("kind", "size"), {"kind": ("cat", "dog")})
        >>> columns.places, columns.encode({"kind": "dog"})
        ({'size': (1,)}, tensor([[1., nan]]))
        >>> columns.read(columns.encode({"size": [0.5, 2.0]}))[1]
        {'size': tensor([True, True])}
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        nodes: Mapping[str, Node],
        names: Sequence[str],
        categories: Mapping[str, Sequence[str]],
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        self.categories = {name: tuple(known) for name, known in categories.items()}
        self.places = {name: found for name, node in nodes.items() if (found := self._find(node))}
        # Discrete nodes with a law come later, when their laws are known.
        self.integers: set[str] = {name for name in self.places if nodes[name].law is None and self.named(name)}
        self.vectors = {name for name, found in self.places.items() if len(found) > 1}
        self.register_buffer("shift", torch.zeros(len(self.names)))
        self.register_buffer("scale", torch.ones(len(self.names)))
        self.numbers = [i for i, name in enumerate(self.names) if name not in self.categories]
        self.kinds = [(i, len(self.categories[name])) for i, name in enumerate(self.names) if name in self.categories]

    def named(self, name: str) -> bool:
        """Whether the values of a node are categories with names."""
        return all(self.names[i] in self.categories for i in self.places[name])

    @property
    def features(self) -> int:
        """How many numbers `seen` gives for a row."""
        return len(self.numbers) + sum(size for _, size in self.kinds) + len(self.names)

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Take the scale of the numbers from data with gaps."""
        for i in self.numbers:
            known = x[:, i][~x[:, i].isnan()].double()
            if len(known):
                spread = known.std(correction=0)
                self.shift[i] = known.mean()
                self.scale[i] = spread if spread > 0 else 1.0

    def seen(self, x: Tensor) -> Tensor:
        """What a network is shown of rows: numbers to scale, categories one-hot, 0 where one is missing, and what is there."""
        there = ~x.isnan()
        scaled = torch.where(there, (x - self.shift) / self.scale, 0.0)[:, self.numbers]
        known = [nn.functional.one_hot(x[:, i].nan_to_num().long(), size).to(x.dtype) * there[:, i, None] for i, size in self.kinds]
        return torch.cat([scaled, *known, there.to(x.dtype)], -1)

    def read(self, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The values of the nodes that have columns, (B,) or (B, d), 0 where one is missing, and where they are observed, (B,).

        Raises:
            BadInputError: for a vector of which only a part is there.
        """
        values, observed = {}, {}
        for name, places in self.places.items():
            value = x[:, list(places)] if name in self.vectors else x[:, places[0]]
            there = ~value.isnan()
            if name in self.vectors:
                if bool((there.any(-1) != there.all(-1)).any()):
                    row = int((there.any(-1) != there.all(-1)).nonzero()[0])
                    raise BadInputError(
                        f"row {row + 1} of the batch has only some of the columns of node {name!r}, which is one vector: leave all "
                        "of them out, or make each column a node"
                    )
                there = there.all(-1)
            observed[name] = there
            value = value.nan_to_num()
            values[name] = value.long() if name in self.integers else value
        return values, observed

    def encode(self, given: Mapping[str, Any]) -> Tensor:
        """Rows with these values and gaps elsewhere: 1 x D, or N x D of lists or tensors of N; categories by name or place.

        Raises:
            BadInputError: for a name of no column, an unknown category, or lengths that differ.
        """
        made: dict[int, Tensor] = {}
        for name, value in given.items():
            found = self.places.get(name) or ((self.names.index(name),) if name in self.names else ())
            if not found:
                near = get_close_matches(name, [*self.places, *self.names], 1)
                hint = f"did you mean {near[0]!r}?" if near else f"the columns are {', '.join(self.names)}"
                raise BadInputError(f"{name!r} has no column that it could be given by: {hint}")
            known = self.categories.get(self.names[found[0]])
            many = [value] if isinstance(value, str) or not hasattr(value, "__len__") else value
            codes = torch.as_tensor(
                [self._code(name, one, known) for one in many] if known and not isinstance(many, Tensor) else many,
                dtype=self.shift.dtype,
            )
            codes = torch.atleast_1d(codes) if len(found) == 1 else torch.atleast_2d(codes)
            for place, column in zip(found, codes.reshape(len(codes), -1).unbind(-1) if len(found) > 1 else [codes], strict=True):
                made[place] = column
        n = max((len(column) for column in made.values()), default=1)
        if odd := next((place for place, column in made.items() if len(column) not in (1, n)), None):
            raise BadInputError(f"{self.names[odd]!r} is given {len(made[odd])} values, others {n}: give one, or equally many")
        x = torch.full((n, len(self.names)), torch.nan, dtype=self.shift.dtype, device=self.shift.device)
        for place, column in made.items():
            x[:, place] = column.to(x.device)
        return x

    def _code(self, name: str, value: object, known: Sequence[str]) -> float:
        named = value if isinstance(value, str) else f"{value:.9g}" if isinstance(value, int | float) else value
        if named in known:
            return known.index(named)
        if isinstance(value, str):
            raise BadInputError(f"{name}={value!r} is none of the categories of the data: give one of {', '.join(known)}")
        return float(value)  # type: ignore[arg-type]

    def _find(self, node: Node) -> tuple[int, ...]:
        """The places of the columns of a node; none for one that has no column."""
        if node.columns is not None and self.names:
            for name in node.columns:
                if name not in self.names:
                    near = get_close_matches(name, self.names, 1)
                    hint = f"did you mean {near[0]!r}?" if near else f"the data have {', '.join(self.names)}"
                    raise BadInputError(f"node {node.name!r} has a column {name!r}, which the data have not: {hint}")
            return tuple(self.names.index(name) for name in node.columns)
        if node.name in self.names:
            return (self.names.index(node.name),)
        parts = [f"{node.name}.{i}" for i in range(len(self.names))]
        return tuple(self.names.index(part) for part in parts if part in self.names)


def columns_of(data: Data) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """The names of the columns of a data set, x0, x1, ... where it has none, and the categories of those that have any."""
    if data.values == "tokens":
        raise BadInputError(f"{data.name} has texts, a graphical model takes a table: reparam train vae takes texts")
    if data.x.dim() != 2:
        raise BadInputError(
            f"{data.name} has data of shape {tuple(data.shape)}: a graphical model takes a table, N rows x D columns"
        )
    names = data.columns or tuple(f"x{i}" for i in range(data.x.shape[1]))
    categories: Mapping[str, Sequence[str]] = getattr(data.codec, "categories", {})
    return names, {name: tuple(known) for name, known in categories.items()}


def as_data(data: Any, like: Columns | None = None) -> Data:
    """A table from what a person has: a `Data`, a DataFrame, or a dictionary of columns.

    Args:
        data: it.
        like: the columns of a model that has seen data: others are refused, and categories have the same places.

    Raises:
        BadInputError: for what is none of these, or of other columns or categories.

    Example:
        >>> from reparam.graphical.columns import as_data
        >>> as_data({"length": [1.5, None], "kind": ["cat", "dog"]}).x
        tensor([[1.5000, 0.0000],
                [   nan, 1.0000]])
    """
    if not isinstance(data, Data):
        return from_frame(data, codec=None if like is None else TableCodec(like.names, like.categories))
    names, categories = columns_of(data)
    if like is not None and names != like.names:
        raise BadInputError(f"{data.name} has the columns {', '.join(names)}, the model {', '.join(like.names)}")
    for name in categories if like is not None else ():
        if categories[name] != like.categories.get(name):  # type: ignore[union-attr]
            raise BadInputError(
                f"{data.name} has other categories in column {name!r} than the model, {', '.join(categories[name])}: read it with "
                "the codec of the model's data, or give a DataFrame"
            )
    return data
