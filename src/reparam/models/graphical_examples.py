"""Graphical models by name, for the command line, and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor
from torch.distributions import HalfCauchy, Normal

from reparam.errors import ArtefactError, BadInputError
from reparam.graphical.laws import CategoricalTable, LinearNormal
from reparam.graphical.node import Node
from reparam.models.graphical_config import Config
from reparam.named import call, find, plain

__all__ = ["GRAPHS", "Table", "eight_schools", "find_graph", "given_graph", "iris", "mixture", "name_graph"]


@dataclass(frozen=True)
class Table:
    """What graphs are made from: the columns of a table, and where their values lie.

    Attributes:
        names: of the columns.
        categories: how many values each column of categories has.
        units: the mean and the standard deviation of each column of numbers; (0, 1) where the weights come from a file.

    Example:
        >>> import torch
        >>> from reparam.models.graphical_examples import Table
        >>> table = Table.of(("size", "kind"), {"kind": ("cat", "dog")}, torch.tensor([[1.0, 0.0], [3.0, 1.0]]))
        >>> table.units["size"], table.categories, table.real("size", given="kind", classes=2).parents
        ((2.0, 1.0), {'kind': 2}, ('kind',))
    """

    names: Sequence[str]
    categories: Mapping[str, int]
    units: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, names: Sequence[str], categories: Mapping[str, Sequence[str]], x: Tensor | None = None) -> Table:
        """The table of columns, with units from rows N x D with gaps, where they are there."""
        units = dict.fromkeys(names, (0.0, 1.0))
        for i, name in enumerate(names if x is not None else ()):
            known = x[:, i][~x[:, i].isnan()].double()  # type: ignore[index]
            if len(known) and known.std(correction=0) > 0:
                units[name] = (known.mean().item(), known.std(correction=0).item())
        return cls(tuple(names), {name: len(known) for name, known in categories.items()}, units)

    def real(self, name: str, *reals: str, given: str | None = None, classes: int = 0) -> Node:
        """A column of numbers: normal, linear in others, for each class of a discrete node."""
        loc, scale = self.units[name]
        parents = reals if given is None else (given, *reals)
        units = [self.units[real] for real in reals]
        law = LinearNormal(len(reals), (classes,) if given else (), loc=loc, scale=scale, units=units)
        return Node(name, law, parents=parents)


#: From the settings and the columns to the nodes.
Graph = Callable[[Config, Table], list[Node]]

# What the user has named in this process. A name in a file alone never imports anything.
_OWN: dict[str, Callable[[], list[Node]]] = {}


def eight_schools() -> list[Node]:
    """The effects of coaching in eight schools: y with standard errors sigma, partly pooled; not centred.

    Source: Rubin, "Estimation in parallel randomized experiments" (1981); Gelman et al., "Bayesian Data Analysis" (2013), 5.5.

    Example:
        >>> from reparam.models.graphical_examples import eight_schools
        >>> [node.name for node in eight_schools()]
        ['sigma', 'mu', 'tau', 'z', 'theta', 'y']
    """
    return [
        Node("sigma"),
        Node("mu", lambda: Normal(0.0, 5.0), shared=True),
        Node("tau", lambda: HalfCauchy(5.0), shared=True),
        Node("z", lambda: Normal(0.0, 1.0)),
        Node("theta", lambda mu, tau, z: mu + tau * z),
        Node("y", lambda theta, sigma: Normal(theta, sigma)),
    ]


def iris(table: Table) -> list[Node]:
    """Four measures of flowers of three species: each linear in one that comes before it, for each species.

    Raises:
        BadInputError: for a table without these columns, or with numbers for species.

    Source: Anderson, "The species problem in Iris" (1936); Lauritzen and Wermuth, "Graphical models for associations between
    variables, some of which are qualitative and some quantitative" (1989).

    Example:
        >>> from reparam.models.graphical_examples import Table, iris
        >>> columns = ("sepal_length", "sepal_width", "petal_length", "petal_width", "species")
        >>> nodes = iris(Table.of(columns, {"species": ("setosa", "versicolor", "virginica")}))
        >>> {node.name: node.parents for node in nodes}["sepal_width"]
        ('species', 'sepal_length')
    """
    for name in ("species", *_IRIS):
        if name not in table.names:
            raise BadInputError(f"the graph iris has a column {name}, the data have {', '.join(table.names)}: take --graph mixture")
    k = table.categories.get("species", 0)
    if k < 2:
        raise BadInputError("the graph iris takes the column species as names of categories: --categorical species")
    return [
        Node("species", CategoricalTable(k)),
        table.real("petal_length", given="species", classes=k),
        table.real("petal_width", "petal_length", given="species", classes=k),
        table.real("sepal_length", "petal_length", given="species", classes=k),
        table.real("sepal_width", "sepal_length", given="species", classes=k),
    ]


def mixture(config: Config, table: Table) -> list[Node]:
    """Latent classes that make the columns independent of each other: numbers are normal, categories have a table.

    Source: Lazarsfeld and Henry, "Latent structure analysis" (1968).

    Example:
        >>> from reparam.models.graphical_examples import Table, mixture
        >>> [node.name for node in mixture(Config(classes=2), Table.of(("size", "kind"), {"kind": ("cat", "dog")}))]
        ['class', 'size', 'kind']
    """
    k = config.classes
    latent = "class" if "class" not in table.names else "latent class"
    nodes = [Node(latent, CategoricalTable(k))]
    for name in table.names:
        size = table.categories.get(name)
        if size is None:
            nodes.append(table.real(name, given=latent, classes=k))
        elif size > 1:
            nodes.append(Node(name, CategoricalTable(size, (k,)), parents=(latent,)))
    return nodes


_IRIS = ("petal_length", "petal_width", "sepal_length", "sepal_width")

#: The graphs, by their name on the command line.
GRAPHS: dict[str, Graph] = {
    "eight_schools": lambda config, table: eight_schools(),
    "iris": lambda config, table: iris(table),
    "mixture": mixture,
}


def find_graph(config: Config, data: str, table: Table) -> tuple[str, list[Node]]:
    """The graph that the settings name, or that goes with data of a name, and its nodes.

    The module of the user's `MODULE:FUNCTION` is imported from the current folder or from where Python looks: only because the
    user named it. A name that a file gives is for `given_graph`.

    Raises:
        BadInputError: for an unknown graph; for a module or function that is not there, fails, or returns something else.
    """
    name = config.graph or (data if data in GRAPHS else "mixture")
    if ":" in name:
        name = plain(name)
        _OWN[name] = find(name)
        nodes = call(name)
        if not isinstance(nodes, list | tuple) or not all(isinstance(node, Node) for node in nodes):
            raise BadInputError(f"{name} returned {type(nodes).__name__}: it must return a list of Node")
        return name, list(nodes)
    if name not in GRAPHS:
        near = get_close_matches(name, GRAPHS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise BadInputError(
            f"there is no graph {name}: {hint}give one of {', '.join(GRAPHS)}, or MODULE:FUNCTION of your own, which returns nodes"
        )
    return name, GRAPHS[name](config, table)


def given_graph(config: Config, table: Table) -> list[Node]:
    """The nodes of a graph that a file names: a standard one, or one that the user has named in this process.

    Raises:
        ArtefactError: for another one.
    """
    name = str(config.graph)
    if name in _OWN:
        return list(_OWN[name]())
    if name in GRAPHS:
        return GRAPHS[name](config, table)
    raise ArtefactError(
        f"the model has the graph {name}, and files import nothing: give it again, --graph {name}, or in Python call "
        f"reparam.models.graphical_examples.name_graph({name!r})"
    )


def name_graph(name: str) -> None:
    """Allow the user's `MODULE:FUNCTION` to be called for runs that were trained with it.

    Raises:
        BadInputError: when the module or the function is not there, or the module fails.

    Example:
        >>> from reparam.models.graphical_examples import name_graph
        >>> name_graph("reparam.models.graphical_examples:eight_schools")
    """
    _OWN[plain(name)] = find(name)
