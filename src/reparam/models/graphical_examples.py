"""Graphical models by name, for the command line, and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from torch.distributions import HalfCauchy, Normal

from reparam.errors import BadInputError
from reparam.models.graphical_config import Config
from reparam.models.graphical_node import Node
from reparam.named import call, find

__all__ = ["GRAPHS", "eight_schools", "find_graph", "given_graph", "name_graph"]

#: From the settings, the names of the columns and the categories of some of them to the nodes.
Graph = Callable[[Config, Sequence[str], Mapping[str, Sequence[str]]], list[Node]]

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


#: The graphs, by their name on the command line.
GRAPHS: dict[str, Graph] = {"eight_schools": lambda config, columns, categories: eight_schools()}


def find_graph(
    config: Config, data: str, columns: Sequence[str], categories: Mapping[str, Sequence[str]]
) -> tuple[str, list[Node]]:
    """The graph that the settings name, or that goes with data of a name, and its nodes.

    The module of the user's `MODULE:FUNCTION` is imported from the current folder or from where Python looks: only because the
    user named it. A name that a file gives is for `given_graph`.

    Raises:
        BadInputError: for an unknown graph; for a module or function that is not there, fails, or returns something else.
    """
    name = config.graph or (data if data in GRAPHS else "mixture")
    if ":" in name:
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
    return name, GRAPHS[name](config, columns, categories)


def given_graph(config: Config, columns: Sequence[str], categories: Mapping[str, Sequence[str]]) -> list[Node]:
    """The nodes of a graph that a file names: a standard one, or one that the user has named in this process.

    Raises:
        BadInputError: for another one.
    """
    name = str(config.graph)
    if name in _OWN:
        return list(_OWN[name]())
    if name in GRAPHS:
        return GRAPHS[name](config, columns, categories)
    raise BadInputError(
        f"the model has the graph {name}, and files import nothing: call reparam.models.graphical_examples.name_graph({name!r})"
    )


def name_graph(name: str) -> None:
    """Allow the user's `MODULE:FUNCTION` to be called for runs that were trained with it."""
    _OWN[name] = find(name)
