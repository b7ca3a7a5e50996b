"""What becomes of each node of a graphical model, decided before training and said in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.errors import BadInputError
from reparam.estimators import choose
from reparam.estimators.support import law_name, support_size
from reparam.graphical.columns import Columns
from reparam.graphical.density import DIMENSIONS, largest_table, trace
from reparam.graphical.latent import latent_of
from reparam.graphical.node import Latent, Node
from reparam.noise import Fresh
from reparam.paths import sample
from reparam.paths.path import bounds, is_discrete

__all__ = ["Plan", "Step", "make_plan"]

# Draws of each node from its law, and rows that are looked at, for a first idea of where values lie.
_DRAWS, _ROWS = 101, 256


@dataclass(frozen=True)
class Step:
    """What becomes of one node.

    Attributes:
        node: its name.
        law: the class of its law, "function" for a function of its parents, "given" without one.
        parents: their names.
        shared: one value for all rows.
        observed: rows in which it is observed; None for a node without a column, or where the rows are not at hand.
        rows: of how many.
        how: where its values come from in rows where it is not observed.
        estimator: of the gradient there, by its class; empty where nothing is drawn.
        why: why so.
    """

    node: str
    law: str
    parents: tuple[str, ...]
    shared: bool
    observed: int | None
    rows: int
    how: str = ""
    estimator: str = ""
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """What becomes of the nodes, in their order; prints as a table.

    Attributes:
        steps: one for each node.
        enumerated: the discrete nodes that are summed out.
        latents: what the guide stands for.
        laws: of the random nodes at typical values of their parents.
    """

    steps: tuple[Step, ...]
    enumerated: tuple[str, ...]
    latents: tuple[Latent, ...]
    laws: dict[str, Distribution] = field(repr=False)

    def with_guide(self, about: Callable[[str], str]) -> Plan:
        """The plan with what a guide says about its latents."""
        mine = {latent.name for latent in self.latents}
        steps = tuple(replace(step, how=f"guide: {about(step.node)}") if step.node in mine else step for step in self.steps)
        return replace(self, steps=steps)

    def with_counts(self, observed: Mapping[str, int]) -> Plan:
        """The plan with the number of rows in which each node is observed."""
        return replace(self, steps=tuple(replace(step, observed=observed.get(step.node)) for step in self.steps))

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __str__(self) -> str:
        table = [("node", "law", "parents", "values", "observed", "where not", "estimator", "why")]
        for s in self.steps:
            seen = "" if s.observed is None else f"{s.observed} of {s.rows}"
            parents, values = ", ".join(s.parents), "shared" if s.shared else "each row"
            table.append((s.node, s.law, parents, values, seen, s.how, s.estimator, s.why))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)


def make_plan(
    nodes: Mapping[str, Node],
    columns: Columns,
    x: Tensor | None,
    gaps: frozenset[str],
    rows: int,
    limit: int,
) -> Plan:
    """Decide which nodes are summed out, which a guide stands for, and which need nothing.

    Args:
        nodes: parents before children.
        columns: of the data.
        x: the training rows, N x D with gaps; None where a model is made again and only its weights are to come.
        gaps: the columns that have gaps.
        rows: N.
        limit: the largest table that sums over discrete nodes may make.

    Raises:
        BadInputError: for a node without law and without a full column, a function of its parents or a shared node that has a
            column, two nodes with one column, a law of another event shape than its columns, a value outside of the support of its
            law, a discrete latent with too many values to be sampled, too many of them, and a graph of which nothing is observed.
    """
    full = {name for name, places in columns.places.items() if not gaps & {columns.names[i] for i in places}}
    partly = set(columns.places) - full
    _check_columns(nodes, columns, full)
    laws, starts = _survey(nodes, columns, x)
    for name in columns.places:
        if nodes[name].law is not None and name not in laws:
            raise BadInputError(f"node {name!r} is a function of its parents and has a column: give it a law, or rename it")
    if x is not None:
        _check_values(columns, laws, x)
    needed: set[str] = set()
    for name, node in reversed(list(nodes.items())):
        if (name in columns.places and name in laws) or name in needed:
            needed |= {name, *(node.parents or ())}
    if not any(name in columns.places for name in laws):
        raise BadInputError(
            f"no node with a law is observed: the nodes are {', '.join(nodes)}, the columns {', '.join(columns.names)}: name them "
            "alike, or give a node columns=..."
        )
    children = {parent for name, node in nodes.items() if name in needed for parent in node.parents or ()}
    latent = [name for name in laws if name in needed and name not in full and (name in children or name not in partly)]
    enumerated = [
        name
        for name in laws
        if is_discrete(laws[name])
        and name in needed | partly
        and name not in full
        and not nodes[name].shared
        and nodes[name].estimator is None
        and support_size(laws[name]) is not None
    ]
    enumerated, why = _within(nodes, laws, [name for name in enumerated if name in latent], limit)
    guided = [name for name in latent if name not in enumerated]
    if (count := len([name for name in latent if is_discrete(laws[name])])) > DIMENSIONS:
        raise BadInputError(
            f"{count} discrete nodes are latent or have gaps, and at most {DIMENSIONS} can be summed out or sampled at once: "
            "observe some, or make several one node with all their combinations"
        )
    others = _survey(nodes, columns, x, first=True)[0] if guided else {}
    latents = tuple(latent_of(nodes[name], laws[name], others[name], starts[name], cells=name in partly) for name in guided)
    steps = []
    for name, node in nodes.items():
        law = laws.get(name)
        said = "given" if node.law is None else "function" if law is None else law_name(law)
        treated: tuple[str, ...] = ()
        if name in enumerated:
            treated = ("summed out", "exact", why)
        elif name in guided and law is not None:
            treated = ("guide", *_estimator(node, law))
        elif law is not None and (name in partly or name not in needed):
            treated = ("left out", "", "nothing depends on it")
        steps.append(Step(name, said, node.parents or (), node.shared, None, rows, *treated))
    return Plan(tuple(steps), tuple(enumerated), latents, laws)


def _check_columns(nodes: Mapping[str, Node], columns: Columns, full: set[str]) -> None:
    for name, node in nodes.items():
        if node.law is None and name not in columns.places:
            raise BadInputError(
                f"node {name!r} has no law and no column: give it a law, or data with a column {name!r}; they have "
                f"{', '.join(columns.names)}"
            )
        if node.law is None and name not in full:
            raise BadInputError(f"node {name!r} has no law, and its column has gaps: give it a law, or fill them")
        if node.shared and name in columns.places:
            raise BadInputError(f"node {name!r} is shared, and there is a column {name!r}: rename one of them")

    held: dict[int, str] = {}
    for name, places in columns.places.items():
        for place in places:
            if (other := held.setdefault(place, name)) != name:
                raise BadInputError(
                    f"the nodes {other!r} and {name!r} both have the column {columns.names[place]!r}, which would count twice: "
                    "give it to one, and make that one a parent of the other"
                )


def _check_values(columns: Columns, laws: Mapping[str, Distribution], x: Tensor) -> None:
    """Refuse values that are in no support, where supports do not depend on parents: those are looked at in training."""
    values, there = columns.read(x)
    for name, law in laws.items():
        if name in columns.places and columns.named(name) and not is_discrete(law):
            raise BadInputError(
                f"node {name!r} has the law {law_name(law)}, and its column has the categories "
                f"{', '.join(columns.categories[columns.names[columns.places[name][0]]])}: give it a law of categories, such as "
                "Categorical"
            )
        if name not in columns.places or law.support is None or any(isinstance(bound, Tensor) for bound in bounds(law.support)):
            continue
        inside = law.support.check(values[name])
        bad = (there[name] & ~inside.reshape(len(x), -1).all(-1)).nonzero()
        if len(bad):
            row = int(bad[0])
            raise BadInputError(
                f"node {name!r}: the value {values[name][row].tolist()} in row {row + 1} of those observed ({len(bad)} such rows) "
                f"is not in the support of its law, {law_name(law)} on {law.support}: mend the data, or take another law"
            )


@torch.no_grad()
def _survey(
    nodes: Mapping[str, Node], columns: Columns, x: Tensor | None, *, first: bool = False
) -> tuple[dict[str, Distribution], dict[str, Tensor]]:
    """The laws at typical values of parents, or at the first ones that were drawn, and draws or the values that a column has."""
    source = Fresh(torch.Generator().manual_seed(0))
    starts: dict[str, Tensor] = {}
    given: dict[str, Tensor] = {}
    observed: dict[str, Tensor] = {}
    if x is None:
        for name, node in nodes.items():
            if node.law is None:
                values = torch.ones(1, len(columns.places[name])) if name in columns.vectors else torch.ones(1)
                given[name] = torch.zeros(1, dtype=torch.int64) if name in columns.integers else values
        batch = 1
    else:
        x = x[:_ROWS].cpu()
        given, observed = columns.read(x)
        batch = len(x)

    def fill(node: Node, law: Distribution) -> Tensor:
        places = columns.places.get(node.name, ())
        if places and law.event_shape != ((len(places),) if node.name in columns.vectors else ()):
            raise BadInputError(
                f"node {node.name!r} has the column{'s' * (len(places) > 1)} {', '.join(columns.names[i] for i in places)}, and "
                f"its law, {law_name(law)}, the event shape {tuple(law.event_shape)}: a vector of d numbers has d columns, "
                "columns=(...), and the event shape (d,)"
            )
        draws = sample(law, (_DRAWS,), source=source)
        typical = draws.median(0).values if _is_plain(law) and not first else draws[0]
        starts[node.name] = draws.flatten(0, draws.dim() - 1 - len(law.event_shape))
        if node.name not in observed:
            return typical
        there = observed[node.name]
        if there.any():
            starts[node.name] = given[node.name][there].to(draws.dtype)
        shape = there.shape + (1,) * len(law.event_shape)
        return torch.where(there.reshape(shape), given[node.name].to(draws.dtype), typical)

    fixed = {name: given[name] for name, node in nodes.items() if node.law is None}
    return trace(nodes.values(), fixed, fill, batch).laws, starts


def _is_plain(law: Distribution) -> bool:
    """Whether the median of each element of some draws lies in the support."""
    return not is_discrete(law) and getattr(law.support, "event_dim", 1) == len(law.event_shape) == 0


def _within(nodes: Mapping[str, Node], laws: Mapping[str, Distribution], names: list[str], limit: int) -> tuple[list[str], str]:
    """Those discrete nodes whose sums make no table above the limit, and why: nodes of many values are left to be sampled first."""
    while True:
        sizes = {name: support_size(laws[name]) or 1 for name in names}
        scopes = _scopes(nodes, set(names))
        table = largest_table(scopes, sizes)
        if table <= limit:
            return names, f"tables of up to {table} values"
        names = [name for name in names if name != max(sizes, key=lambda name: sizes[name])]


def _scopes(nodes: Mapping[str, Node], enumerated: set[str]) -> list[frozenset[str]]:
    """On which enumerated nodes the term of each node depends."""
    through: dict[str, frozenset[str]] = {}
    scopes = []
    for name, node in nodes.items():
        above = frozenset().union(*(through[parent] for parent in node.parents or ()))
        scopes.append(above | ({name} & enumerated))
        through[name] = frozenset({name}) if name in enumerated else above
    return scopes


def _estimator(node: Node, law: Distribution) -> tuple[str, str]:
    """Of a latent that the guide draws, and why."""
    if node.estimator is not None:
        return type(node.estimator).__name__, "it was named"
    if not is_discrete(law):
        return "Pathwise", "its draws have a path"
    choice = choose(law, node.draws or 1)
    return type(choice.estimator).__name__, choice.reason
