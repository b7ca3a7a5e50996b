"""One pass over rows of a table: observed values, latents that are given, and exact sums over discrete ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.errors import BadInputError
from reparam.graphical.density import DIMENSIONS, Enumeration, Joint, log_prob, ranked, stand_in, trace
from reparam.graphical.node import Node
from reparam.noise import Source
from reparam.paths import rsample, sample
from reparam.paths.path import is_discrete

__all__ = ["Given", "Rows", "joint", "rows_of_table"]


@dataclass(frozen=True)
class Rows:
    """Rows of data as the nodes see them.

    Attributes:
        size: B, how many.
        values: of nodes that have columns, (B,) + event, 0 where one is missing.
        there: where they are observed, (B,).
        need: of each node, where it or something that depends on it is observed, (B,); what is left out elsewhere integrates to 1.
    """

    size: int
    values: dict[str, Tensor] = field(repr=False)
    there: dict[str, Tensor] = field(repr=False)
    need: dict[str, Tensor] = field(repr=False)

    def missing(self, name: str) -> Tensor:
        """Where a node is needed and not observed, (B,)."""
        need = self.need[name]
        return need & ~self.there[name] if name in self.there else need


@dataclass(frozen=True)
class Given:
    """Values of latents, of which a guide has drawn some.

    Attributes:
        values: by name, rows + (B,) + event; of shared nodes rows + (1,) + event.
        shape: rows.
        known: by name, the rows that the value is for, (B,), where that is not all of them.
        whole: latents whose density counts in every row.
    """

    values: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    shape: torch.Size = field(default_factory=torch.Size)
    known: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    whole: frozenset[str] = frozenset()


def rows_of_table(nodes: Mapping[str, Node], values: dict[str, Tensor], there: dict[str, Tensor], x: Tensor) -> Rows:
    """The rows of a table x, B x D, with what is needed of each: its parents are, of all that is.

    Raises:
        BadInputError: for a row that lacks the value of a node without law.
    """
    none = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    need = {name: there[name] if node.law is not None and name in there else none for name, node in nodes.items()}
    for name, node in reversed(list(nodes.items())):
        for parent in node.parents or ():
            need[parent] = need[parent] | need[name]
    for name, node in nodes.items():
        if node.law is None and name in there and bool((lack := need[name] & ~there[name]).any()):
            raise BadInputError(
                f"node {name!r} has no law, and row {int(lack.nonzero()[0]) + 1} of the batch lacks its value: give it"
            )
    return Rows(len(x), values, there, need)


def joint(
    nodes: Mapping[str, Node], rows: Rows, given: Given, enumerable: Callable[[str], bool], source: Source | None = None
) -> Joint:
    """The terms of log p at the values of rows and latents.

    A latent that is needed and not given is summed out where it is `enumerable`. Otherwise it is drawn from its own law, and its
    density counts neither there nor in that of the guide: the two cancel.

    Args:
        nodes: parents before children.
        rows: of data.
        given: values of latents.
        enumerable: whether a node of this name may be summed out.
        source: of the noise of what is drawn.
    """
    active = [node for name, node in nodes.items() if name in given.values or bool(rows.need[name].any())]
    summed = [
        node.name
        for node in active
        if node.name not in given.values and enumerable(node.name) and bool(rows.missing(node.name).any())
    ]
    if len(summed) > DIMENSIONS:
        raise BadInputError(
            f"{len(summed)} discrete nodes are missing and would be summed out at once, {DIMENSIONS} can be: give rows with fewer "
            "gaps at a time, or some of the nodes an estimator"
        )
    one_pass = _Pass(rows, given, Enumeration(summed, len(given.shape) + 1), source)
    fixed = {name: value for name, value in rows.values.items() if nodes[name].law is None or bool(rows.there[name].all())}
    fixed |= {name: value for name, value in given.values.items() if name not in rows.there and name not in given.known}
    made = trace(active, fixed, one_pass, rows.size, next(iter(rows.need.values())).device)
    own: dict[str, Tensor] = {}
    shared: dict[str, Tensor] = {}
    for node in active:
        if (law := made.laws.get(node.name)) is None:
            continue
        value = made.values[node.name]
        term = log_prob(node.name, law, value)
        counts = one_pass.counts(node.name)
        if not node.shared and counts is not None:
            term = torch.where(counts, term, 0.0)
        (shared if node.shared else own)[node.name] = ranked(
            node.name, term, len(summed), (*given.shape, 1 if node.shared else rows.size)
        )
    return Joint(made.values, own, shared, one_pass.lay.places, tuple(one_pass.corrections))


class _Pass:
    """The `fill` of one pass: where each value comes from, and in which rows its density counts."""

    def __init__(self, rows: Rows, given: Given, lay: Enumeration, source: Source | None) -> None:
        self.rows, self.given, self.lay, self.source = rows, given, lay, source
        self.drawn: dict[str, Tensor] = {}  # by name, the rows whose value is a draw from the law itself
        self.corrections: list[Tensor] = []

    def __call__(self, node: Node, law: Distribution) -> Tensor:
        name = node.name
        there, missing = self.rows.there.get(name), self.rows.missing(name)
        if name in self.lay.places:
            value = self.lay(node, law)
            if there is not None:
                same = value == self.rows.values[name].to(value.dtype)
                same = same.flatten(same.dim() - len(law.event_shape)).all(-1) if law.event_shape else same
                odd = there & ~same.any(self.lay.places[name]).reshape(-1, same.shape[-1]).any(0)
                if bool(odd.any()):
                    came = self.rows.values[name][odd][0].tolist()
                    raise BadInputError(f"node {name!r}: the value {came} is not among those of its law, {type(law).__name__}")
                self.corrections.append(torch.where(there & ~same, -torch.inf, 0.0))
            return value
        if name in self.given.values:
            value = self.given.values[name]
            if name in self.given.known:
                known = self.given.known[name]
                self.drawn[name] = ~known
                value = _where(known, value, self.draw(law), law)
        elif bool(missing.any()):
            value, self.drawn[name] = self.draw(law), missing
        else:
            value = stand_in(law)
        return value if there is None else _where(there, self.rows.values[name].to(value.dtype), value, law)

    def draw(self, law: Distribution) -> Tensor:
        # One for each draw of the guide, also where the law depends on what is summed out alone.
        shape = torch.broadcast_shapes(law.batch_shape, self.given.shape + law.batch_shape[-1:])
        law = law if shape == law.batch_shape else law.expand(shape)
        differentiable = torch.is_grad_enabled() and not is_discrete(law)
        return rsample(law, source=self.source) if differentiable else sample(law, source=self.source)

    def counts(self, name: str) -> Tensor | None:
        """In which rows the density of a node counts, (B,); None for all."""
        # What is summed out adds up to 1 where nothing depends on it.
        everywhere = name in self.given.whole or name in self.lay.places
        counts = torch.ones_like(self.rows.need[name]) if everywhere else self.rows.need[name]
        if name in self.drawn:
            counts = counts & ~self.drawn[name]
        return None if bool(counts.all()) else counts


def _where(there: Tensor, value: Tensor, other: Tensor, law: Distribution) -> Tensor:
    """`value` in the rows that are there and `other` elsewhere; both rows + (B,) + event."""
    return torch.where(there.reshape(there.shape + (1,) * len(law.event_shape)), value, other)
