"""The joint density of a graphical model: a pass from parents to children, and exact sums over discrete nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to

from reparam.errors import BadInputError
from reparam.estimators.support import support
from reparam.graphical.node import Node
from reparam.paths import sample

__all__ = [
    "DIMENSIONS",
    "Enumeration",
    "Fill",
    "Joint",
    "Trace",
    "expanded",
    "largest_table",
    "log_prob",
    "ranked",
    "stand_in",
    "sum_out",
    "trace",
]

#: Nodes that are summed at once: each has a dimension of its own, and torch has 64.
DIMENSIONS = 60

#: The value of a random node that is not given, from its law.
Fill = Callable[[Node, Distribution], Tensor]


@dataclass(frozen=True)
class Trace:
    """The nodes that a pass went through.

    Attributes:
        values: of each, rows + (B,) + event, or rows + (1,) + event of a shared one.
        laws: of the random ones, given their parents' values.
    """

    values: dict[str, Tensor] = field(repr=False)
    laws: dict[str, Distribution] = field(repr=False)


def trace(nodes: Iterable[Node], values: Mapping[str, Tensor], fill: Fill, batch: int, device: torch.device | None = None) -> Trace:
    """Go from parents to children: a node keeps the value it is given, a function of its parents is computed, others are filled.

    Args:
        nodes: parents before children.
        values: of some of them. A value of several rows is looked at as it is, whatever its law would say.
        fill: gives the values of the other random ones, such as draws.
        batch: B, the number of rows of data.
        device: that laws of plain numbers, such as Normal(0.0, 1.0), are made on; by default that of the values.

    Raises:
        BadInputError: for a law that fails, or that does not give a distribution or tensor of the shape of rows + (B,), naming the
            node; for a node without law and value.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Normal
        >>> from reparam.graphical.density import trace
        >>> from reparam.graphical.node import Node, ordered
        >>> nodes = ordered([Node("mu", lambda: Normal(0.0, 1.0), shared=True), Node("y", lambda mu: Normal(mu, 1.0))])
        >>> made = trace(nodes.values(), {"mu": torch.zeros(1)}, lambda node, law: rp.sample(law), batch=5)
        >>> made.values["y"].shape
        torch.Size([5])
    """
    made: dict[str, Tensor] = {}
    laws: dict[str, Distribution] = {}
    device = device or next((value.device for value in values.values()), None)
    with device if device is not None and device.type != "cpu" else nullcontext():
        for node in nodes:
            name = node.name
            if node.law is None:
                if name not in values:
                    raise BadInputError(f"node {name!r} is given, it has no law: give its values")
                made[name] = values[name]
                continue
            found = _call(node, made)
            if isinstance(found, Tensor):
                made[name] = values[name] if name in values else torch.atleast_1d(found)
                continue
            _check_law(node, found, batch)
            laws[name] = found if name in values else expanded(node, found, batch)
            made[name] = values[name] if name in values else fill(node, laws[name])
    return Trace(made, laws)


def expanded(node: Node, law: Distribution, batch: int) -> Distribution:
    """The law with a batch of rows + (B,), or of rows + (1,) for a shared node: one that does not depend on the row has none.

    Raises:
        BadInputError: for a law that cannot be expanded.
    """
    last, shape = 1 if node.shared else batch, law.batch_shape
    if shape[-1:] == (last,):
        return law
    try:
        made: Distribution = law.expand((*shape[:-1], last))
    except NotImplementedError:
        raise BadInputError(
            f"node {node.name!r}: {type(law).__name__} has batch shape {tuple(shape)} and no expand to {last}: implement it"
        ) from None
    return made


def log_prob(name: str, law: Distribution, value: Tensor) -> Tensor:
    """`law.log_prob(value)`, rows + (B,), with errors that name the node.

    Raises:
        BadInputError: for a value outside of the support, or of another shape.
    """
    try:
        return law.log_prob(value)
    except ValueError as error:
        inside = _inside(law, value)
        if inside is not None and not inside.all():
            event = len(law.event_shape)
            shape = torch.broadcast_shapes(value.shape, inside.shape + (1,) * event)
            odd = value.expand(shape)[~inside.expand(shape[: len(shape) - event])].flatten()[0]
            raise BadInputError(
                f"node {name!r}: the value {odd:g} is not in the support of its law, {type(law).__name__} on {law.support}"
            ) from error
        raise BadInputError(f"node {name!r}: {_line(error)}") from error


def ranked(name: str, term: Tensor, front: int, rows: Sequence[int]) -> Tensor:
    """A term of a node with `front` dimensions before those of rows + (B,), of which it may lack some.

    Raises:
        BadInputError: for a term of another shape, which would be taken for another row's, naming the node.
    """
    rank = front + len(rows)
    if term.dim() > rank or any(size not in (1, want) for size, want in zip(reversed(term.shape), reversed(rows), strict=False)):
        came, wanted = tuple(term.shape[max(0, min(front, term.dim() - len(rows))) :]), tuple(rows)
        raise BadInputError(
            f"node {name!r}: its log-density has shape {came} where {wanted} is wanted, one number a row: a law of rows + (B,) is "
            "given values of another shape, or one of its parents has a dimension too many"
        )
    return term.reshape((1,) * (rank - term.dim()) + term.shape)


def stand_in(law: Distribution) -> Tensor:
    """Some value in the support, batch + event: what takes the place of a value that is missing and does not count."""
    shape, inside = law.batch_shape + law.event_shape, law.support
    if inside is None or inside.is_discrete:
        return sample(law)
    try:
        to = biject_to(inside)
    except NotImplementedError:
        return sample(law)
    made: Tensor = to(torch.zeros(to.inverse_shape(shape))).detach()
    return made.expand(shape)


class Enumeration:
    """A `fill` that gives a discrete node all the values of its support at once, in a dimension of its own in front of all others.

    Args:
        names: of the nodes, each of which gets a dimension.
        rank: how many dimensions values have without those: rows + (B,).

    Attributes:
        places: the dimension of each node.
    """

    def __init__(self, names: Sequence[str], rank: int) -> None:
        self.places = {name: i for i, name in enumerate(names)}
        self.rank = rank

    def __call__(self, node: Node, law: Distribution) -> Tensor:
        """The support, 1... + (S,) + 1... + event: the same for all rows."""
        values = _values(node.name, law)
        place, front = self.places[node.name], len(self.places)
        shape = (1,) * place + (len(values),) + (1,) * (front - place - 1 + self.rank)
        return values.reshape(shape + law.event_shape)


@dataclass(frozen=True)
class Joint:
    """The terms of a joint log-density, over all values of enumerated nodes at once.

    A term has shape S_1 + ... + S_m + rows + (B,), or a size of 1 where it does not depend on an enumerated node, or on the row.

    Attributes:
        values: of the nodes.
        terms: log p(node | parents), by node; 0 in rows where nothing observed depends on the node.
        shared_terms: those of shared nodes, which count once and not for each row.
        places: the dimension of each enumerated node.
        corrections: for nodes that are enumerated in some rows and observed in others, minus infinity at values that were not.
    """

    values: dict[str, Tensor] = field(repr=False)
    terms: dict[str, Tensor] = field(repr=False)
    shared_terms: dict[str, Tensor] = field(repr=False)
    places: dict[str, int]
    corrections: tuple[Tensor, ...] = field(default=(), repr=False)

    def rows(self) -> Tensor:
        """The log of p(row | shared), the enumerated nodes summed out exactly: rows + (B,)."""
        return sum_out(self._factors(), len(self.places))

    def shared(self) -> Tensor:
        """The log of p(shared), rows + (1,)."""
        return sum_out(list(self.shared_terms.values()), len(self.places))

    def posterior(self, name: str) -> Tensor:
        """P(node = value | all else that is given) of an enumerated node: rows + (B, S), in the order of its support."""
        log_p = sum_out(self._factors(), len(self.places), keep=(self.places[name],))
        return log_p.movedim(0, -1).softmax(-1)

    def mean(self, name: str, event: int) -> Tensor:
        """The mean of a node over the enumerated ones, given all else: rows + (B,) + event, with so many dimensions of an event."""
        dims, value = len(self.places), self.values[name]
        rank = dims + self.rows().dim()
        value = value.reshape((1,) * (rank + event - value.dim()) + value.shape)
        keep = [dim for dim in range(dims) if value.shape[dim] > 1]
        value = value.squeeze([dim for dim in range(dims) if dim not in keep])
        if not keep:
            return value
        log_p = sum_out(self._factors(), dims, keep).flatten(0, len(keep) - 1)
        weight = log_p.softmax(0)
        mean: Tensor = (weight.reshape(weight.shape + (1,) * event) * value.flatten(0, len(keep) - 1)).sum(0)
        return mean

    def _factors(self) -> list[Tensor]:
        return [*self.terms.values(), *self.corrections]


def sum_out(factors: Sequence[Tensor], dims: int, keep: Sequence[int] = ()) -> Tensor:
    """`log sum exp` of the sum of factors over their first dimensions, by variable elimination.

    One dimension at a time: the factors that have it are added up and summed over it, the others wait. The dimension whose sum
    makes the smallest table goes first, so that chains and trees of discrete nodes cost no more than their largest family.

    Args:
        factors: logs, all of one rank, broadcastable.
        dims: how many dimensions in front are summed.
        keep: those of them that are not.

    Returns:
        The log of the sum: kept dimensions + the other ones.

    Example:
        >>> import torch
        >>> from reparam.graphical.density import sum_out
        >>> start, step = torch.tensor([0.1, 0.9]).log(), torch.tensor([[0.5, 0.5], [0.2, 0.8]]).log()
        >>> sum_out([start.reshape(2, 1, 1), step.reshape(2, 2, 1)], 2, keep=(1,)).exp().flatten()
        tensor([0.2300, 0.7700])
    """
    left = list(factors)
    if not left:
        return torch.zeros(1)
    waiting = [dim for dim in range(dims) if dim not in keep]
    while waiting:
        dim = min(waiting, key=lambda dim: _table(left, dim, dims))
        waiting.remove(dim)
        hit = [factor for factor in left if factor.shape[dim] > 1]
        if hit:
            left = [factor for factor in left if factor.shape[dim] == 1] + [_log_sum(sum(hit[1:], hit[0]), dim)]
    total = sum(left[1:], left[0])
    return total.reshape([total.shape[dim] for dim in sorted(keep)] + list(total.shape[dims:]))


def largest_table(scopes: Iterable[Iterable[str]], sizes: Mapping[str, int]) -> int:
    """The largest table that `sum_out` makes of factors with these discrete nodes, by their numbers of values.

    Example:
        >>> from reparam.graphical.density import largest_table
        >>> largest_table([("a",), ("a", "b"), ("b", "c")], {"a": 2, "b": 3, "c": 4})
        12
    """
    left, waiting, largest = [frozenset(scope) & frozenset(sizes) for scope in scopes], set(sizes), 1

    def joined(name: str) -> frozenset[str]:
        return frozenset({name}).union(*(scope for scope in left if name in scope))

    while waiting:
        name = min(sorted(waiting), key=lambda name: prod(sizes[other] for other in joined(name)))
        table = joined(name)
        largest = max(largest, prod(sizes[other] for other in table))
        left = [scope for scope in left if name not in scope] + [table - {name}]
        waiting.remove(name)
    return largest


def _table(factors: Sequence[Tensor], dim: int, dims: int) -> int:
    hit = [factor for factor in factors if factor.shape[dim] > 1]
    return prod(max(factor.shape[i] for factor in hit) for i in range(dims)) if hit else 0


def _log_sum(terms: Tensor, dim: int) -> Tensor:
    """`logsumexp` with gradient 0, and not NaN, where all terms are minus infinity: what cannot happen."""
    top = terms.detach().amax(dim, keepdim=True)
    top = torch.where(top.isfinite(), top, 0.0)
    total = (terms - top).exp().sum(dim, keepdim=True)
    possible = total > 0
    return torch.where(possible, torch.where(possible, total, 1.0).log() + top, -torch.inf)


def _values(name: str, law: Distribution) -> Tensor:
    """The support of one element, (S,) + event."""
    try:
        values = support(law)
    except NotImplementedError:
        raise BadInputError(
            f"node {name!r}: {type(law).__name__} has no support that can be listed: give the node an estimator"
        ) from None
    return values[(slice(None),) + (0,) * len(law.batch_shape)]


def _call(node: Node, values: Mapping[str, Tensor]) -> Distribution | Tensor:
    """What the law of a node makes of the values of its parents."""
    parents = node.parents or ()
    try:
        found = node.law(*(values[parent] for parent in parents))  # type: ignore[misc]
    except BadInputError:
        raise
    except Exception as error:  # whatever the user's code does
        shapes = ", ".join(f"{parent} {tuple(values[parent].shape)}" for parent in parents) or "no parents"
        raise BadInputError(f"node {node.name!r}: its law fails with {type(error).__name__} on {shapes}: {_line(error)}") from error
    if not isinstance(found, Distribution | Tensor):
        hint = ": does it lack its return?" if found is None else "."
        raise BadInputError(
            f"node {node.name!r}: its law returned {type(found).__name__}{hint} Give a torch.distributions.Distribution, or a "
            "tensor for a node that is a function of its parents"
        )
    return found


def _line(error: Exception) -> str:
    """What torch says in several lines, in one."""
    return " ".join(str(error).split())


def _check_law(node: Node, law: Distribution, batch: int) -> None:
    last, shape = 1 if node.shared else batch, law.batch_shape
    if shape and shape[-1] not in (1, last):
        plate = "is shared, so that its law has batch shape (..., 1)" if node.shared else f"has a value for each of {batch} rows"
        raise BadInputError(
            f"node {node.name!r} {plate}; the law that came, {type(law).__name__}, has batch shape {tuple(shape)} and event shape "
            f"{tuple(law.event_shape)}. For a vector, move dimensions into the event: Independent(law, 1)"
        )


def _inside(law: Distribution, value: Tensor) -> Tensor | None:
    try:
        return None if law.support is None else law.support.check(value)
    except (NotImplementedError, ValueError, RuntimeError):
        return None
