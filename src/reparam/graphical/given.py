"""From what people give, values by name or rows of a table, to values of nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reparam.data.table import named
from reparam.errors import BadInputError
from reparam.graphical.drawn import Given
from reparam.graphical.node import Node
from reparam.graphical.particles import Fact, facts_of

if TYPE_CHECKING:
    from reparam.models.graphical import Graphical

__all__ = [
    "categories_of",
    "check_draws",
    "check_node",
    "design",
    "facts_about",
    "in_words",
    "is_one",
    "observed",
    "read",
    "training_rows",
]

# At once, which is a hundred megabytes for each node.
_MOST_DRAWS = 10_000_000


def training_rows(model: Graphical) -> tuple[Tensor, Tensor]:
    """The training rows and their places, in the order of their numbers."""
    if model.done:
        raise BadInputError("do(...) is about new rows, not about those of the data: ask with evidence, {} if there is none")
    if model.rows is None:
        raise BadInputError("the model has no training rows at hand: observe data, or ask with evidence, {} for a new row")
    return _in_order(model, model.rows)


def design(model: Graphical, names: Sequence[str]) -> Tensor:
    """The training rows, N x D in the order of their numbers, for the values of nodes without law."""
    if model.rows is None:
        raise BadInputError(
            f"{', '.join(names)} has no law, and the model has no training rows at hand: give values, given={{{names[0]!r}: ...}}"
        )
    return _in_order(model, model.rows)[0]


def _in_order(model: Graphical, rows: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    x, index = rows
    order = model.known_rows[index].argsort()
    return x[order], index[order]


def check_node(model: Graphical, name: str) -> None:
    if name not in model.nodes:
        near = get_close_matches(str(name), model.nodes, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the nodes are {', '.join(model.nodes)}"
        raise BadInputError(f"there is no node {name!r}: {hint}")


def check_draws(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= _MOST_DRAWS:
        raise BadInputError(f"n is {n!r}: give a number of draws, 1 to {_MOST_DRAWS}")


def facts_about(model: Graphical, nodes: Mapping[str, Node]) -> dict[str, Fact]:
    """What the nodes are, where those without law stand for typical values."""
    columns, values = model.columns, {}
    for name, node in nodes.items():
        if node.law is None:
            event = (len(columns.places[name]),) if name in columns.vectors else ()
            values[name] = torch.ones((1, 1, *event)) if name not in columns.integers else torch.zeros((1, 1), dtype=torch.int64)
    return facts_of(nodes, values)


def observed(model: Graphical, x: Tensor, facts: Mapping[str, Fact]) -> dict[str, Given]:
    """What rows of the table know of nodes."""
    values, there = model.columns.read(x)
    return {name: Given(values[name].nan_to_num().to(facts[name].dtype), there[name]) for name in values if bool(there[name].any())}


def read(model: Graphical, name: str, value: Any, fact: Fact, *, function: bool = False) -> Given:
    """A value that was given by hand, of one row or of several; of a function of its parents only where that is said."""
    if model.nodes[name].law is not None and not fact.random and not function:
        raise BadInputError(f"{name!r} is a function of its parents: give their values, or set it by do({name}=...)")
    array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, dtype=object)
    flat = [_number(model, name, each) for each in array.flatten()]
    event = fact.event
    found = torch.tensor(flat, dtype=torch.float64).reshape(array.shape)
    found = found[None] if found.dim() == len(event) else found
    if found.shape[1:] != event or not found.numel():
        wanted = f"a vector of {event[0]}" if len(event) == 1 else f"an array of shape {tuple(event)}" if event else "a number"
        raise BadInputError(f"{name!r} is given values of shape {tuple(array.shape)}: give {wanted}, or N of them")
    gaps = found.isnan().flatten(1) if event else found.isnan()[:, None]
    known = ~gaps.any(1)
    if bool((gaps.any(1) != gaps.all(1)).any()):
        raise BadInputError(f"{name!r} is a vector of which only a part is given: give all of it, or leave it out")
    if fact.support is not None:
        inside = (found.unsqueeze(1) == fact.support).flatten(2).all(-1) if event else found.unsqueeze(1) == fact.support
        if bool((known & ~inside.any(1)).any()):
            odd = found[known & ~inside.any(1)][0].tolist()
            raise BadInputError(f"{name!r} is given {odd:g}: its values are {_listed(model, name, fact.support)}")
    if fact.within is not None:
        value = found.nan_to_num()
        inside = fact.within.check(value).reshape(len(value), -1).all(1)
        if bool((known & ~inside).any()):
            odd = value[known & ~inside][0].tolist()
            raise BadInputError(f"{name!r} is given {odd}, which is not in the support of its law, {fact.within}")
    return Given(found.nan_to_num().to(fact.dtype), known)


def _number(model: Graphical, name: str, value: Any) -> float:
    """A number, or the place of a category. Where categories are called by numbers, a number is the name of one."""
    names = categories_of(model, name) or ()
    if value is None or type(value).__name__ == "NAType":  # that of pandas, which need not be there
        return math.nan
    text = value if isinstance(value, str) else None
    if text is None:
        try:
            made = float(value)
        except (TypeError, ValueError):
            raise BadInputError(f"{name!r} is given {value!r}: give a number") from None
        if math.isinf(made):
            raise BadInputError(f"{name!r} is given {value!r}: give a finite number, or NaN where it is not known")
        if math.isnan(made) or not any(map(_is_number, names)):
            return made
        text = named(made)
    if text in names:
        return float(names.index(text))
    near = get_close_matches(text, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"give one of {', '.join(names[:10])}" if names else "give a number"
    raise BadInputError(f"{name!r} is given {value!r}: {hint}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def categories_of(model: Graphical, name: str) -> tuple[str, ...] | None:
    columns = model.columns
    places = columns.places.get(name, ())
    return columns.categories.get(columns.names[places[0]]) if len(places) == 1 else None


def _listed(model: Graphical, name: str, support: Tensor) -> str:
    return ", ".join((categories_of(model, name) or [f"{each}" for each in support.tolist()])[:10])


def is_one(value: Any, fact: Fact) -> bool:
    return np.ndim(value.detach().cpu() if isinstance(value, Tensor) else value) == len(fact.event)


def in_words(evidence: Mapping[str, Any], alone: bool, batch: int) -> str:
    if not len(evidence):
        return "for a new row"
    if not alone:
        return f"given {', '.join(evidence)} of {batch} rows"
    return "given " + ", ".join(f"{name} = {value}" for name, value in evidence.items())
