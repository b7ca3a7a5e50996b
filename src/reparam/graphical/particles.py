"""Weighted draws of a graphical model given some of its nodes: discrete nodes summed exactly, the others drawn and weighed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from reparam.errors import BadInputError
from reparam.estimators.support import support, support_size
from reparam.graphical.density import DIMENSIONS, Enumeration, largest_table, log_prob, ranked, sum_out, trace
from reparam.graphical.drawn import Drawn, Given, wide
from reparam.graphical.node import Node
from reparam.noise import Source
from reparam.paths import sample
from reparam.paths.path import bounds, is_discrete

__all__ = ["Fact", "Particles", "ancestors", "facts_of", "particles", "summed", "weighed"]

# Numbers that one table of a sum may have: 64 MB.
_MOST = 2**24
# Numbers of an answer: a gigabyte, as weights are in double precision.
_ALL = 2**27
# Numbers of one node that a chunk of rows has.
_CHUNK = 2**18
# Values of one node that are summed; a count of more is drawn.
_LONGEST = 256


@dataclass(frozen=True)
class Fact:
    """What a node is, by its law given typical parents.

    Attributes:
        event: the shape of a value.
        dtype: of a value.
        random: whether it has a distribution; not where it is given, or is a function of its parents.
        discrete: whether its values can be counted.
        support: (K,) + event, the values of a discrete one that has finitely many.
        within: the support of a continuous one, where it does not depend on parents.
    """

    event: torch.Size
    dtype: torch.dtype
    random: bool = False
    discrete: bool = False
    support: Tensor | None = field(default=None, repr=False)
    within: Constraint | None = None


@dataclass(frozen=True)
class Particles:
    """Values of nodes and the logs of their weights, over all values of summed nodes and all draws at once.

    Attributes:
        values: by name, S_1 + ... + S_m + (n or 1, B or 1) + event.
        log_weight: S_1 + ... + S_m + (n or 1, B): log p of what is known and summed, over the density that draws were made from.
        log_shared: log p of shared nodes, (n or 1, 1).
    """

    values: dict[str, Tensor] = field(repr=False)
    log_weight: Tensor = field(repr=False)
    log_shared: Tensor = field(repr=False)


def ancestors(nodes: Mapping[str, Node], names: Iterable[str]) -> dict[str, Node]:
    """The nodes of these names and all that they depend on, in order: all others integrate to 1.

    Example:
        >>> from torch.distributions import Normal
        >>> from reparam.graphical.node import Node, ordered
        >>> from reparam.graphical.particles import ancestors
        >>> chain = [Node("a", lambda: Normal(0.0, 1.0)), Node("b", lambda a: Normal(a, 1.0)), Node("c", lambda b: Normal(b, 1.0))]
        >>> list(ancestors(ordered(chain), ["b"]))
        ['a', 'b']
    """
    found = set(names)
    for name in reversed(list(nodes)):
        if name in found:
            found.update(nodes[name].parents or ())
    return {name: node for name, node in nodes.items() if name in found}


def facts_of(nodes: Mapping[str, Node], values: Mapping[str, Tensor]) -> dict[str, Fact]:
    """What each node is, by one pass through the laws.

    Args:
        nodes: parents before children.
        values: (1, 1) + event, of nodes without a law, and of others that draws should depend on.

    Raises:
        BadInputError: for a law that fails, or for a node without law and value.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):  # a look at the laws is no reason to move the caller's generator
        made = trace(nodes.values(), values, lambda _, law: sample(wide(law, 1, 1)), 1)
    found: dict[str, Fact] = {}
    ranks: dict[str, int] = {}
    for name, value in made.values.items():
        law = made.laws.get(name)
        if law is None:  # a constant has no dimension for draws
            ranks[name] = 2 if name in values else max((ranks[parent] for parent in nodes[name].parents or ()), default=1)
            found[name] = Fact(value.shape[ranks[name] :], value.dtype)
            continue
        ranks[name] = 2
        size = support_size(law) if is_discrete(law) else None
        listed = support(law).flatten(1, len(law.batch_shape))[:, 0] if size is not None and size <= _LONGEST else None
        moves = law.support is None or any(isinstance(bound, Tensor) for bound in bounds(law.support))
        within = None if moves or is_discrete(law) else law.support
        found[name] = Fact(law.event_shape, value.dtype, random=True, discrete=is_discrete(law), support=listed, within=within)
    return found


def summed(
    nodes: Mapping[str, Node],
    facts: Mapping[str, Fact],
    known: Iterable[str],
    draws: int,
    wanted: Iterable[str] = (),
    rows: int = 1,
) -> tuple[list[str], int]:
    """Which nodes can be summed exactly, and the largest table of that; those with most values are left out until it fits.

    Of nodes that are asked for together, all values together are an answer. Where that is too large, those on which nothing depends
    are drawn: gaps in many columns of categories.

    Args:
        nodes: parents before children.
        facts: of them.
        known: those that are not to be summed: given in all rows, or drawn by a guide.
        draws: of each entry of a table.
        wanted: what is asked for.
        rows: of which so many are answered.

    Example:
        >>> from torch.distributions import Bernoulli
        >>> from reparam.graphical.node import Node, ordered
        >>> from reparam.graphical.particles import facts_of, summed
        >>> nodes = ordered([Node("a", lambda: Bernoulli(0.5)), Node("b", lambda a: Bernoulli(0.1 + 0.5 * a))])
        >>> summed(nodes, facts_of(nodes, {}), [], 1)
        (['a', 'b'], 4)
    """
    out = {*known, *(name for name, node in nodes.items() if node.shared)}
    wanted = tuple(wanted)
    sizes = {name: len(values) for name in nodes if name not in out and (values := facts[name].support) is not None}
    while True:
        scopes: dict[str, frozenset[str]] = {}
        for name, node in nodes.items():
            above = frozenset().union(*(scopes[parent] for parent in node.parents or ()))
            scopes[name] = frozenset({name}) if name in sizes else frozenset() if name in out else above
        families = [scopes[name].union(*(scopes[parent] for parent in node.parents or ())) for name, node in nodes.items()]
        table = largest_table(families, sizes)
        asked = frozenset[str]().union(*(scopes[name] for name in wanted))
        if prod(sizes[name] for name in asked) * draws * rows > _ALL:
            last = asked - {parent for node in nodes.values() for parent in node.parents or ()}
            left_out = last or {max(asked, key=lambda name: sizes[name])}
        elif len(sizes) > DIMENSIONS or table * draws > _MOST:
            left_out = {max(sizes, key=lambda name: sizes[name])}
        else:
            return list(sizes), table
        sizes = {name: size for name, size in sizes.items() if name not in left_out}


@torch.no_grad()
def particles(
    nodes: Mapping[str, Node],
    facts: Mapping[str, Fact],
    given: Mapping[str, Given],
    drawn: Drawn,
    wanted: Iterable[str],
    sums: Iterable[str] = (),
    *,
    n: int,
    batch: int,
    source: Source | None = None,
) -> Particles:
    """Draw what is neither known nor summed, and weigh it.

        w(c, r) = p(known, c | z_r) Π p(z_r) / q(z_r)

    Nodes that no guide drew come from their own laws, so that p(z) / q(z) = 1: likelihood weighting. A continuous node with
    summed parents has a draw for each of their values. A node that is summed is so in rows where it is known, too: there all
    other values have weight 0.

    Args:
        nodes: parents before children.
        facts: of them.
        given: what is known.
        drawn: by a guide.
        wanted: nodes whose values are returned; the sums over nodes that these do not depend on are carried out.
        sums: the nodes that are summed.
        n: draws.
        batch: B, rows.
        source: of noise.

    Raises:
        BadInputError: for a law that fails, a known value outside of the support, a node without a law that is not known.

    Source: Fung and Chang (1990), "Weighing and integrating evidence for stochastic simulation in Bayesian networks".

    Example:
        >>> import torch
        >>> from torch.distributions import Bernoulli, Normal
        >>> from reparam.graphical.node import Node, ordered
        >>> from reparam.graphical.particles import Drawn, Given, facts_of, particles
        >>> nodes = ordered([Node("c", lambda: Bernoulli(0.5)), Node("x", lambda c: Normal(c, 1.0))])
        >>> one = Given(torch.tensor([1.0]), torch.tensor([True]))
        >>> made = particles(nodes, facts_of(nodes, {}), {"x": one}, Drawn(), ["c"], ["c"], n=1, batch=1)
        >>> made.log_weight.softmax(0).flatten()
        tensor([0.3775, 0.6225])
    """
    enumeration = Enumeration(list(sums), 2)
    places = enumeration.places
    rank = len(places) + 2
    nobody = torch.zeros(batch, dtype=torch.bool)
    known = {name: given[name].known if name in given else nobody for name in nodes}
    fixed = {name: drawn.values[name] for name in nodes if name in drawn.values and name not in drawn.used}
    for name, node in nodes.items():
        if node.law is None and not bool(known[name].all()):
            raise BadInputError(f"node {name!r} has no law and is not known in every row: give its value")
        if name in given and name not in places and bool(known[name].all()):
            fixed[name] = given[name].value[None]

    def fill(node: Node, law: Distribution) -> Tensor:
        if node.name in places:
            return enumeration(node, law)
        value = sample(wide(law, n, 1 if node.shared else batch), source=source)
        if node.name in drawn.used:
            value = _where(drawn.used[node.name], drawn.values[node.name], value, law)
        return _where(known[node.name], given[node.name].value, value, law) if node.name in given else value

    made = trace(nodes.values(), fixed, fill, batch)
    terms, shared = [torch.zeros((1,) * (rank - 1) + (batch,))], [torch.zeros((1,) * rank)]
    for name, law in made.laws.items():
        value, counted = made.values[name], known[name] | drawn.used.get(name, nobody)
        if name in places:
            terms.append(ranked(name, log_prob(name, law, value), len(places), (n, batch)))
            if bool(known[name].any()):
                same = value == given[name].value
                same = same.flatten(rank).all(-1) if law.event_shape else same
                terms.append(torch.where(same | ~known[name], 0.0, -torch.inf))
        elif nodes[name].shared and name in fixed:
            shared.append(ranked(name, log_prob(name, law, value), len(places), (n, 1)))
        elif not nodes[name].shared and bool(counted.any()):
            terms.append(torch.where(counted, ranked(name, log_prob(name, law, value), len(places), (n, batch)), 0.0))
    values = {name: _ranked(made.values[name], rank, len(facts[name].event)) for name in wanted}
    keep = [dim for dim in range(len(places)) if any(value.shape[dim] > 1 for value in values.values())]
    log_weight = sum_out(terms, len(places), keep) - drawn.log_q
    drawn_too = max([1, *(value.shape[rank - 2] for value in values.values())])  # nothing known may depend on what was drawn
    shape = torch.broadcast_shapes(log_weight.shape, (drawn_too, batch))
    return Particles(
        {name: value.squeeze([dim for dim in range(len(places)) if dim not in keep]) for name, value in values.items()},
        log_weight.expand(shape),
        sum(shared[1:], shared[0]).reshape(-1, 1),
    )


def weighed(
    nodes: Mapping[str, Node],
    facts: Mapping[str, Fact],
    given: Mapping[str, Given],
    drawn: Drawn,
    wanted: Sequence[str],
    n: int,
    batch: int,
    source: Source | None,
) -> Particles:
    """Particles of all rows, some rows at a time; without draws where all can be summed exactly."""
    closed = {name for name, each in given.items() if bool(each.known.all())} | set(drawn.values)
    sums, table = summed(nodes, facts, closed, 1, wanted, batch)
    draws = 1
    if drawn.values or any(facts[name].random and name not in closed and name not in sums for name in nodes):
        sums, table = summed(nodes, facts, closed, n, wanted, batch)
        draws = n
    some = min(batch, max(1, min(_CHUNK, _MOST // table) // draws))
    parts: list[Particles] = []
    for start in range(0, batch, some):
        end = min(start + some, batch)
        part = {name: Given(each.value[start:end], each.known[start:end]) for name, each in given.items()}
        parts.append(particles(nodes, facts, part, drawn.rows(start, end), wanted, sums, n=n, batch=end - start, source=source))
        if parts[0].log_weight[..., 0].numel() * batch * max(1, len(wanted)) > _ALL:
            raise BadInputError(
                f"{draws} draws of {batch} rows for {len(wanted)} nodes are too many numbers to keep: give smaller n, or ask for "
                "fewer nodes or rows"
            )
    if len(parts) == 1:
        return parts[0]
    at = parts[0].log_weight.dim() - 1
    values = {
        name: torch.cat([part.values[name] for part in parts], at) if value.shape[at] == some and not nodes[name].shared else value
        for name, value in parts[0].values.items()
    }
    return Particles(values, torch.cat([part.log_weight for part in parts], -1), parts[0].log_shared)


def _where(mask: Tensor, value: Tensor, other: Tensor, law: Distribution) -> Tensor:
    """One or the other in each row, events whole."""
    return torch.where(mask.reshape(mask.shape + (1,) * len(law.event_shape)), value.to(other.dtype), other)


def _ranked(value: Tensor, rank: int, event: int = 0) -> Tensor:
    """The same with so many dimensions before the event."""
    return value.reshape((1,) * (rank + event - value.dim()) + value.shape)
