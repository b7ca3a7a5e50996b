"""Several random nodes in one model, each with its own estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators.choose import choose
from reparam.estimators.estimator import Draw, Estimator, check_cost, check_estimator, check_rows
from reparam.estimators.support import law_name
from reparam.noise import Source
from reparam.paths.parameters import forget_derived

__all__ = ["Node", "Sampler", "graph", "run"]

Sampler = Callable[[str, Distribution], Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Node:
    """A random node of a model that has run: its law, who estimates it and why, and its rows."""

    law: str
    estimator: Estimator
    why: str
    draw: Draw


def graph(
    model: Callable[[Sampler], Tensor],
    *,
    estimators: Mapping[str, Estimator] | None = None,
    n: int | Mapping[str, int] = 1,
    batch_shape: int | tuple[int, ...] = (),
    source: Source | Mapping[str, Source] | None = None,
) -> Tensor:
    """An estimate of the expected cost of a model with several random nodes, with the gradient of that expectation.

    `model(sample)` draws its nodes with `z = sample("z", law)` and returns a cost. It runs once, on all rows. Each node's rows
    stand in front of those drawn before it: with nodes z then c, a value of c is `n_c + n_z + batch + event`, and
    z's values broadcast against it as they are. The law of a later node has batch shape `rows so far + batch` where it
    depends on them; where it does not, dimensions may be 1 or missing on the left, and its draws are shared.
    The costs are weighed in reverse order, so that each node sees an estimate of the expected cost given its rows.

    Args:
        model: the model; its cost has shape `all rows + a leading part of batch_shape`, also where it does not depend on some of
            the nodes (`expand` it).
        estimators: by node name; a node that is not named gets what `rp.choose` picks for its law.
        n: rows of every node, or by node name (1 where not named).
        batch_shape: the batch dimensions that every law and the cost share. Every other dimension of a law belongs into its event:
            wrap it in `torch.distributions.Independent`. Shapes are all that is compared: a batch dimension that happens
            to be as long as the rows before it is taken for them.
        source: of noise, for every node or by node name.

    Returns:
        The estimate, of the shape of the cost without rows.

    Raises:
        ValueError: for a law or cost that does not fit, showing the shapes; for an unknown or repeated node name.
        TypeError: for a node that is not drawn by a name and a distribution.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Categorical, Normal
        >>> mu = torch.tensor(0.0, requires_grad=True)
        >>> def model(sample):
        ...     z = sample("z", Normal(mu, 1.0))
        ...     c = sample("c", Categorical(logits=torch.stack([z, -z, 0 * z], -1)))
        ...     return (z - c) ** 2
        >>> rp.graph(model, estimators={"c": rp.LeaveOneOut()}, n={"z": 8, "c": 4}).backward()
        >>> mu.grad.isfinite()
        tensor(True)
    """
    nodes, cost = run(model, estimators, n, batch_shape, source)
    for name, node in reversed(nodes.items()):
        with _named(name):
            cost = node.estimator.weigh(node.draw, cost)
    return cost


def run(
    model: Callable[[Sampler], Tensor],
    estimators: Mapping[str, Estimator] | None,
    n: int | Mapping[str, int],
    batch_shape: int | tuple[int, ...],
    source: Source | Mapping[str, Source] | None,
) -> tuple[dict[str, Node], Tensor]:
    """Run the model once: its nodes in order, and the costs of all rows."""
    estimators = {} if estimators is None else estimators
    if not isinstance(estimators, Mapping):
        raise TypeError(f"graph: estimators is a dict by node name, such as {{'z': rp.Pathwise()}}; got {estimators!r}")
    batch = torch.Size([batch_shape] if isinstance(batch_shape, int) else batch_shape)
    nodes: dict[str, Node] = {}

    def rows() -> torch.Size:
        return torch.Size([node.draw.value.shape[0] for node in reversed(nodes.values())])

    def sample(name: str, law: Distribution | None = None) -> Tensor:
        if not isinstance(name, str) or not isinstance(law, Distribution):
            came = ", ".join(map(_in_words, (name,) if law is None else (name, law)))
            raise TypeError(
                f'graph: a node is drawn by sample("name", law), a name and a torch.distributions.Distribution; got sample({came})'
            )
        if name in nodes:
            raise ValueError(f"graph: the node {name!r} was drawn twice; give every draw a name of its own")
        forget_derived(law)
        law = _fit(name, law, rows(), batch, nodes)
        count = check_rows(_of(n, name, 1), f"graph: the number of rows of node {name!r}")
        noise = _of(source, name, None)
        with _named(name):
            if name in estimators:
                estimator, why = check_estimator(estimators[name]), "it was named"
            else:
                choice = choose(law, count, noise)
                estimator, why = choice.estimator, choice.reason
            nodes[name] = Node(law_name(law), estimator, why, estimator.draw(law, count, noise))
        return nodes[name].draw.value

    cost = model(sample)
    for given in (estimators, n, source):
        _check_names(given, nodes)
    try:
        check_cost(cost, rows(), batch)
    except ValueError as error:
        raise ValueError(f"graph: rows are {_rows_in_words(nodes)}: {error}") from None
    return nodes, cost


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors that say whose estimator they are about; their type and their traceback stay."""
    try:
        yield
    except (NotImplementedError, TypeError, ValueError) as error:
        error.args = (f"graph: node {name!r}: {error}",)
        raise


def _in_words(given: object) -> str:
    if isinstance(given, str):
        return repr(given)
    return f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__


def _fit(name: str, law: Distribution, rows: torch.Size, batch: torch.Size, nodes: dict[str, Node]) -> Distribution:
    """The law with its batch padded on the left to `rows + batch`, or an error that shows the shapes."""
    wanted, have = rows + batch, law.batch_shape
    padding = len(wanted) - len(have)
    aligned = wanted[max(padding, 0) :]
    if padding < 0 or any(size not in (1, want) for size, want in zip(have, aligned, strict=True)):
        raise ValueError(
            f"graph: the law of node {name!r} has batch shape {tuple(have)}; it must broadcast to the rows so far "
            f"({_rows_in_words(nodes)}) + batch {tuple(batch)} = {tuple(wanted)}. Declare shared batch "
            "dimensions with batch_shape=..., or move dimensions into the event with torch.distributions.Independent(law, k)"
        )
    if not padding:
        return law
    try:
        expanded: Distribution = law.expand(torch.Size([1] * padding) + have)
    except NotImplementedError:
        raise NotImplementedError(
            f"graph: the law of node {name!r} does not depend on the rows before it, and {type(law).__name__} has no expand that "
            "would give it dimensions for them: implement expand"
        ) from None
    return expanded


def _rows_in_words(nodes: dict[str, Node]) -> str:
    return " + ".join(f"{name}={node.draw.value.shape[0]}" for name, node in reversed(nodes.items())) or "none"


def _of(given: T | Mapping[str, T] | None, name: str, default: T) -> T:
    if isinstance(given, Mapping):
        return given.get(name, default)
    return default if given is None else given


def _check_names(given: object, nodes: Mapping[str, Node]) -> None:
    for name in given if isinstance(given, Mapping) else ():
        if name not in nodes:
            near = get_close_matches(name, nodes, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the nodes are {', '.join(nodes) or 'none'}"
            raise ValueError(f"graph: the model drew no node {name!r}; {hint}")
