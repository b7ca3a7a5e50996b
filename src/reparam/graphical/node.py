"""The nodes of a graphical model: what a person writes, and the order they are drawn in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from reparam.errors import BadInputError
from reparam.estimators import Estimator

__all__ = ["Latent", "Law", "Node", "ordered", "select"]

#: From the values of the parents to the law of a node, or to its value.
Law = Callable[..., Distribution | Tensor]


@dataclass(frozen=True)
class Node:
    """A variable of a graphical model, and its law given its parents.

    Whether it is observed, partly missing or latent is not said here: the data decide, which have a column of its name, with or
    without gaps, or none.

    A value of a node is `rows + (B,) + event`, one for each of the B rows of data at hand; of a shared node it is
    `rows + (1,) + event`. Laws of numbers need no thought about that; one that looks into an event counts from the right,
    `w[..., 0]`, and one that picks by a discrete parent takes [`select`][reparam.graphical.node.select].

    Args:
        name: of the node and, unless `columns` says otherwise, of its column.
        law: a function or module of the values of the parents. It returns a `torch.distributions.Distribution` or, for a
            node that is a function of its parents, a tensor. None: the node is given, by a column without gaps.
        parents: their names, in the order in which `law` takes them; by default the names of its parameters. Parameters with a
            default are not parents unless nodes have their names; of a law that takes any number (*), none is one by default.
        shared: one value for all rows, and not one for each.
        estimator: of the gradient, where the node is latent and sampled; by default what `rp.choose` picks. A discrete node that
            is given one is sampled, where it would otherwise be summed out.
        draws: how many values that estimator draws; by default as the settings of the model have it.
        columns: of the data, where it is not the one of the node's name; several make a vector.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> from reparam.graphical.node import Node
        >>> Node("y", lambda mu, sigma: Normal(mu, sigma)).name
        'y'
    """

    name: str
    law: Law | None = field(default=None, repr=False)
    parents: tuple[str, ...] | None = field(default=None, kw_only=True)
    shared: bool = field(default=False, kw_only=True)
    estimator: Estimator | None = field(default=None, kw_only=True)
    draws: int | None = field(default=None, kw_only=True)
    columns: str | tuple[str, ...] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise BadInputError(f"a node is called {self.name!r}: give it a name")
        if self.law is not None and (not callable(self.law) or isinstance(self.law, type | Distribution)):
            raise BadInputError(
                f"the law of node {self.name!r} is {self.law!r}: give a function of its parents that returns a distribution, such "
                "as lambda mu: Normal(mu, 1.0), or without parents lambda: Normal(0.0, 1.0)"
            )
        for what in ("parents", "columns"):
            if isinstance(named := getattr(self, what), str):
                named = (named,)
            object.__setattr__(self, what, None if named is None else tuple(named))
        if self.draws is not None and (isinstance(self.draws, bool) or not isinstance(self.draws, int) or self.draws < 1):
            raise BadInputError(f"node {self.name!r} has draws={self.draws!r}: give how many values to draw, at least 1")
        if isinstance(self.estimator, type):
            raise BadInputError(f"the estimator of node {self.name!r} is a class: give an instance, {self.estimator.__name__}()")
        if self.shared and self.columns:
            raise BadInputError(f"node {self.name!r} is shared and has columns {self.columns}: one value for all rows has none")


@dataclass(frozen=True)
class Latent:
    """What a guide is told of a continuous latent.

    Attributes:
        name: of its node.
        event: the shape of a value.
        support: of its law.
        shared: one value for all rows.
        cells: whether it stands for the gaps of a column that is there.
        estimator: what the node names, or None.
        start: M + event: values of it that are plausible before data, draws of its law given typical parents; of cells the values
            that the column has.
        categories: of a discrete latent that is sampled, how many values it has, 1 for a coin of 0 and 1; 0 for a continuous one.
    """

    name: str
    event: torch.Size
    support: Constraint
    shared: bool
    cells: bool
    estimator: Estimator | None
    start: Tensor = field(repr=False)
    categories: int = 0


def ordered(nodes: Iterable[Node]) -> dict[str, Node]:
    """The nodes by name, parents before children, each with its parents named.

    Raises:
        BadInputError: for a name that comes twice, a parent that is no node, a cycle, and a shared node with a parent that is not.

    Example:
        >>> from torch.distributions import Normal
        >>> from reparam.graphical.node import Node, ordered
        >>> list(ordered([Node("y", lambda mu: Normal(mu, 1.0)), Node("mu", lambda: Normal(0.0, 5.0), shared=True)]))
        ['mu', 'y']
    """
    given = list(nodes)
    if not given or not all(isinstance(node, Node) for node in given):
        odd = next((node for node in given if not isinstance(node, Node)), None)
        raise BadInputError(f"a graphical model is a list of nodes, Node(name, law); got {'none' if not given else repr(odd)}")
    names = [node.name for node in given]
    for name in names:
        if names.count(name) > 1:
            raise BadInputError(f"two nodes are called {name!r}: give each a name of its own")
    left = {node.name: replace(node, parents=_parents(node, names)) for node in given}
    made: dict[str, Node] = {}
    while left:
        ready = [name for name, node in left.items() if all(parent in made for parent in node.parents or ())]
        if not ready:
            raise BadInputError(f"the nodes {' <- '.join(_cycle(left))} wait for each other: a graph has no cycle")
        for name in ready:
            made[name] = left.pop(name)
    for node in made.values():
        if node.shared and (local := [parent for parent in node.parents or () if not made[parent].shared]):
            raise BadInputError(
                f"node {node.name!r} is shared, one value for all rows, and its parent {local[0]!r} has one for each row: "
                f"make {node.name!r} a node of rows, or {local[0]!r} shared"
            )
    return made


def select(values: Tensor, index: Tensor) -> Tensor:
    """The entry of each vector at a place: what a law takes to depend on a discrete parent.

        select(v, c)[b] = v[b, c[b]]

    Args:
        values: batch + (K,), such as one mean for each of K classes.
        index: a batch of places 0..K-1. The batch dimensions broadcast.

    Returns:
        The entries, of the common batch shape.

    Raises:
        ValueError: for values without a last dimension.

    Example:
        >>> import torch
        >>> from reparam.graphical.node import select
        >>> select(torch.tensor([[10.0, 20.0, 30.0]]), torch.tensor([2, 0, 1, 1]))
        tensor([30., 10., 20., 20.])
    """
    if values.dim() == 0:
        raise ValueError("the values that are selected from have no dimensions: give batch + (K,)")
    shape = torch.broadcast_shapes(values.shape[:-1], index.shape)
    places = index.long().expand(shape)[..., None]
    return values.expand(shape + values.shape[-1:]).gather(-1, places)[..., 0]


def _parents(node: Node, names: Sequence[str]) -> tuple[str, ...]:
    """The names of the parents, as they are given or as the parameters of the law have it."""
    found = node.parents
    if node.law is None:
        if found:
            raise BadInputError(f"node {node.name!r} has parents {found} and no law: a node that is given has none")
        return ()
    if found is None:
        function = node.law.forward if isinstance(node.law, nn.Module) else node.law
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            raise BadInputError(f"node {node.name!r}: what its law takes cannot be read: name its parents=(...)") from None
        named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        wanted = [parameter for parameter in named if parameter.default is parameter.empty or parameter.name in names]
        if any(parameter.kind is parameter.KEYWORD_ONLY for parameter in wanted):
            raise BadInputError(f"node {node.name!r}: its law takes parents by keyword only: take them by position")
        found = tuple(parameter.name for parameter in wanted)
    for parent in found:
        if parent not in names:
            near = get_close_matches(parent, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the nodes are {', '.join(names)}"
            raise BadInputError(f"node {node.name!r} has a parent {parent!r}, which is no node: {hint}")
        if found.count(parent) > 1:
            raise BadInputError(f"node {node.name!r} has its parent {parent!r} twice")
    return found


def _cycle(left: dict[str, Node]) -> list[str]:
    """Some cycle among nodes none of which is ready."""
    way = [next(iter(left))]
    while way.count(way[-1]) < 2:
        way.append(next(parent for parent in left[way[-1]].parents or () if parent in left))
    return way[way.index(way[-1]) :]
