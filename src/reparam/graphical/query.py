"""What is asked of a graphical model: posteriors, interventions, simulations, the evidence for it, and what is missing."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reparam.errors import BadInputError
from reparam.graphical.density import trace
from reparam.graphical.drawn import Given, drawn_of, wide
from reparam.graphical.given import (
    categories_of,
    check_draws,
    check_node,
    design,
    facts_about,
    in_words,
    is_one,
    observed,
    read,
    training_rows,
)
from reparam.graphical.node import Node
from reparam.graphical.particles import Fact, Particles, ancestors, weighed
from reparam.graphical.posterior import Posterior
from reparam.noise import Source
from reparam.paths import sample

if TYPE_CHECKING:
    from reparam.models.graphical import Graphical

__all__ = ["do", "impute", "posterior", "simulate", "table_of"]

# With fewer draws than these, in effect, an answer is not to be relied on.
_FEW = 30
# Of a block of rows that are filled at once: draws times rows times columns.
_NUMBERS = 2**22

Query = str | Sequence[str] | None


def posterior(
    model: Graphical,
    query: Query = None,
    evidence: Mapping[str, Any] | None = None,
    *,
    n: int = 1000,
    source: Source | None = None,
) -> Posterior:
    """P(query | evidence, training data).

    Without evidence it is about the training data, where there are any and nothing is set by `do`: what all rows share by
    draws of the guide, latents and gaps of each row, in the order of their numbers. With evidence it is about new rows that share
    those values: each row by itself,

        P(z | e) = Σ_r w_r 1[z_r] / Σ_r w_r,    w_r = Σ_c p(e, c | z_r) p(z_r) / q(z_r),

    where discrete nodes c are summed exactly while the tables fit, and continuous ones z come from their laws or, where there is
    one, from the guide's network of a row. Without continuous nodes, and without shared latents, the answer is exact. Evidence
    informs about shared values too, by the same weights.

    Args:
        model: the model.
        query: the names of the nodes that are asked for; by default all that are not known.
        evidence: values by node: numbers, names of categories, or N of them for N rows, as a DataFrame has them; NaN or None is
            unknown. {} is a new row of which nothing is known.
        n: draws.
        source: of noise.

    Raises:
        BadInputError: for a node that is not there or not known, evidence on a shared node or on a function of its parents,
            evidence that cannot be.

    Warns:
        RuntimeWarning: where so few draws fit the evidence that the answer cannot be relied on.

    Source: Fung and Chang (1990), "Weighing and integrating evidence for stochastic simulation in Bayesian networks".

    Example:
        >>> import torch
        >>> from torch.distributions import Bernoulli
        >>> from reparam.models.graphical import Graphical, Node
        >>> sprinkler = Graphical([
        ...     Node("rain", lambda: Bernoulli(torch.tensor([0.2]))),
        ...     Node("sprinkler", lambda rain: Bernoulli(0.4 - 0.39 * rain)),
        ...     Node("wet", lambda rain, sprinkler: Bernoulli((0.8 * rain + 0.9 * sprinkler).clamp(max=0.99))),
        ... ])
        >>> sprinkler.posterior("rain", {"wet": 1}).mean("rain")
        tensor(0.3577)
        >>> sprinkler.do({"sprinkler": 1}).posterior("rain", {"wet": 1}).mean("rain")
        tensor(0.2157)
    """
    check_draws(n)
    if evidence is not None and not hasattr(evidence, "keys"):
        raise BadInputError(f"the evidence is {evidence!r}: give values by node, such as {{'species': 'setosa'}}")
    if evidence is None and (model.done or not model.size):
        evidence = {}  # there are no data that the question could be about
    evidence = None if evidence is None else {name: evidence[name] for name in evidence.keys()}  # noqa: SIM118 - of a DataFrame
    wanted = _wanted(model, query, evidence)
    if evidence is None:
        x, index = training_rows(model)
        if all(model.nodes[name].shared for name in wanted):  # the guide has learned from the rows: they are not looked at again
            nodes = ancestors(model.nodes, wanted)
            facts = facts_about(model, nodes)
            made = weighed(nodes, facts, {}, drawn_of(model, nodes, {}, 1, n, None, None, source), wanted, n, 1, source)
            return _answer(model, nodes, facts, made, f"given {len(x)} rows of data", data=True)
        nodes = ancestors(model.nodes, [*wanted, *model.columns.places])
        facts = facts_about(model, nodes)
        given = observed(model, x, facts)
        drawn = drawn_of(model, nodes, given, len(x), n, x, index, source)
        made = weighed(nodes, facts, given, drawn, wanted, n, len(x), source)
        rows = model.known_rows[index].tolist()
        return _answer(model, nodes, facts, made, f"given {len(x)} rows of data", data=True, rows=rows, given=given)
    nodes = ancestors(model.nodes, [*wanted, *evidence])
    facts = facts_about(model, nodes)
    given = {name: read(model, name, value, facts[name]) for name, value in evidence.items()}
    batch = max((len(each.known) for each in given.values()), default=1)
    for name, each in given.items():
        if len(each.known) not in (1, batch):
            raise BadInputError(f"{name!r} is given {len(each.known)} values, another node {batch}: give one, or equally many")
        given[name] = Given(each.value.expand(batch, *each.value.shape[1:]), each.known.expand(batch))
    alone = all(is_one(value, facts[name]) for name, value in evidence.items())
    drawn = drawn_of(model, nodes, given, batch, n, None, None, source)
    made = weighed(nodes, facts, given, drawn, wanted, n, batch, source)
    return _answer(model, nodes, facts, made, in_words(evidence, alone, batch), alone=alone, given=given)


def do(model: Graphical, values: Mapping[str, Any]) -> Graphical:
    """The model with some nodes set from outside: cut from their parents, whose laws do not explain their values.

    It shares its weights and what it has learned with the model; ask it with `posterior(query, evidence)` or `simulate`. It is
    about new rows: what the training rows would have been is another question.

    Args:
        model: the model.
        values: by node, one value each; categories by name or place.

    Raises:
        BadInputError: for a node that is not there, that is given anyway, whose value is unknown or not in its support, or that is
            shared and has random children, as these were learned together.

    Source: Pearl (1995), "Causal diagrams for empirical research".

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> from reparam.models.graphical import Graphical, Node
        >>> model = Graphical([Node("x", lambda: Normal(0.0, 1.0)), Node("y", lambda x: Normal(2 * x, 1.0))])
        >>> model.do({"y": 3.0}).posterior("x", {}, n=4000).mean("x").abs() < 0.2
        tensor(True)
    """
    cut: dict[str, Node] = {}
    for name in values:
        check_node(model, name)
    facts = facts_about(model, ancestors(model.nodes, values))
    for name, value in values.items():
        node = model.nodes[name]
        if node.law is None:
            raise BadInputError(f"do({name}=...): the node has no law and is given anyway: give its value as evidence")
        if node.shared and (children := _random_children(model, name)):
            raise BadInputError(
                f"do({name}=...): {name!r} and its child {children[0]!r} are shared and were learned together: fit "
                "a model with this value"
            )
        given = read(model, name, value, facts[name], function=True)
        if not is_one(value, facts[name]) or not bool(given.known.all()):
            raise BadInputError(f"do({name}={value!r}): give one value")
        cut[name] = replace(node, law=partial(_itself, given.value), parents=(), estimator=None)
    made = copy(model)
    made.nodes = {name: cut.get(name, node) for name, node in model.nodes.items()}
    made.done = frozenset(cut) | model.done
    return made


def simulate(
    model: Graphical,
    n: int,
    *,
    prior: bool = False,
    given: Mapping[str, Any] | None = None,
    source: Source | None = None,
) -> dict[str, Tensor]:
    """New rows: all nodes by name, `(n,) + event`, drawn from parents to children.

    Each row has its own draw of what rows share: from the guide, so that rows are from the posterior predictive law, or from the
    prior.

    Args:
        model: the model.
        n: rows.
        prior: draw what is shared from its laws.
        given: values of nodes without law, one or n; by default those of the training rows, in order, and again from the first.
        source: of noise.

    Raises:
        BadInputError: for n below 1, and for a node without law and without value.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> from reparam.models.graphical import Graphical, Node
        >>> model = Graphical([Node("dose"), Node("effect", lambda dose: Normal(2 * dose, 1.0))])
        >>> model.simulate(5, given={"dose": 3.0})["effect"].shape
        torch.Size([5])
    """
    check_draws(n)
    facts = facts_about(model, model.nodes)
    fixed = {}
    for name, value in (given or {}).items():
        check_node(model, name)
        if model.nodes[name].law is not None:
            raise BadInputError(
                f"simulate: {name!r} has a law: set it by do(...), or condition on it by posterior(query, evidence)"
            )
        fixed[name] = read(model, name, value, facts[name]).value
        if len(fixed[name]) not in (1, n):
            raise BadInputError(f"{name!r} is given {len(fixed[name])} values for {n} rows: give one, or one for each")
    without = [name for name, node in model.nodes.items() if node.law is None and name not in fixed]
    if without:
        x = design(model, without)
        known = observed(model, x, facts)
        fixed |= {name: known[name].value[torch.arange(n) % len(x)] for name in without}
    fixed = {name: value.expand(n, *value.shape[1:])[:, None] for name, value in fixed.items()}
    if not prior:
        drawn = drawn_of(model, model.nodes, {}, 1, n, None, None, source)
        fixed |= {name: value for name, value in drawn.values.items() if model.nodes[name].shared}
    with torch.no_grad():
        made = trace(model.nodes.values(), fixed, lambda _, law: sample(wide(law, n, 1), source=source), 1)
    # A constant has no dimension of draws.
    return {name: made.values[name].expand(n, 1, *facts[name].event)[:, 0] for name in model.nodes}


def impute(model: Graphical, x: Tensor, known: Tensor, source: Source | None = None, *, n: int = 200) -> Tensor:
    """Rows with what is missing drawn from its posterior given the rest of the row: N x D, categories by place.

    Args:
        model: the model.
        x: N x D rows as the model's data are; anything where they are not known.
        known: N x D, whether each value is.
        source: of noise.
        n: weighted draws that the filling of a row is taken from.

    Raises:
        BadInputError: for a gap in a column that no node has, or whose node has no law.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> from reparam.models.graphical import Graphical, Node
        >>> nodes = [Node("x", lambda: Normal(0.0, 1.0)), Node("y", lambda x: Normal(2 * x, 0.1))]
        >>> model = Graphical(nodes, data={"x": [0.0, 1.0], "y": [0.1, 1.9]})
        >>> rows = torch.tensor([[0.5, torch.nan], [1.0, 2.0]])
        >>> model.impute(rows, ~rows.isnan())[:, 0], model.impute(rows, ~rows.isnan()).isnan().any()
        (tensor([0.5000, 1.0000]), tensor(False))
    """
    check_draws(n)
    columns = model.columns
    if len(x) > (some := max(1, _NUMBERS // (n * len(columns.names)))):
        blocks = zip(x.split(some), known.split(some), strict=True)
        return torch.cat([impute(model, rows, there, source, n=n) for rows, there in blocks])
    made = torch.where(known, x, torch.nan)
    held = {i for places in columns.places.values() for i in places}
    for i in (~known).any(0).nonzero()[:, 0].tolist():
        if i not in held:
            raise BadInputError(f"the column {columns.names[i]!r} has gaps, and no node of the model has it: fill them yourself")
    nodes = ancestors(model.nodes, columns.places)
    facts = facts_about(model, nodes)
    given = observed(model, made, facts)
    wanted = [name for name in columns.places if name not in given or not bool(given[name].known.all())]
    if not wanted:
        return made
    drawn = drawn_of(model, nodes, given, len(x), n, None, None, source)
    weights = weighed(nodes, facts, given, drawn, wanted, n, len(x), source)
    found = _answer(model, nodes, facts, weights, "").joint(1, source=source)
    for name in wanted:
        places = list(columns.places[name])
        made[:, places] = found[name][0].to(made.dtype).reshape(len(x), len(places))
    return made


def table_of(model: Graphical, values: Mapping[str, Tensor]) -> Tensor:
    """Values of nodes, `(n,) + event` by name, as rows N x D of the model's columns; NaN where no node has a column."""
    columns = model.columns
    n = max(len(value) for value in values.values())
    x = torch.full((n, len(columns.names)), torch.nan)
    for name, places in columns.places.items():
        if name in values:
            x[:, list(places)] = values[name].to(x.dtype).reshape(n, len(places))
    return x


def _itself(value: Tensor) -> Tensor:
    return value


def _wanted(model: Graphical, query: Query, evidence: Mapping[str, Any] | None) -> list[str]:
    """The names that are asked for, checked."""
    for name in evidence or ():
        check_node(model, name)
        if name in model.done:
            raise BadInputError(f"{name!r} is both set by do(...) and given as evidence: leave one of them out")
        if model.nodes[name].shared:
            raise BadInputError(
                f"{name!r} is shared by all rows and was learned from data: ask what it is, or set it by do({name}=...)"
            )
    if query is None:
        known = set(model.done) | set(evidence or ())
        if evidence is None:
            x, _ = training_rows(model)
            known |= {name for name, there in model.columns.read(x)[1].items() if bool(there.all())}
        query = [name for name, node in model.nodes.items() if name not in known and node.law is not None]
    names = [query] if isinstance(query, str) else list(dict.fromkeys(query))
    for name in names:
        check_node(model, name)
    if not names:
        raise BadInputError(f"nothing is asked for: the nodes are {', '.join(model.nodes)}")
    return names


def _random_children(model: Graphical, name: str) -> list[str]:
    """The shared nodes with a guide's latent among them that depend on a shared one."""
    below = {name}
    for child, node in model.nodes.items():
        if node.shared and below & set(node.parents or ()):
            below.add(child)
    learned = {latent.name for latent in getattr(getattr(model, "guide", None), "latents", ())}
    return [child for child in model.nodes if child in below & learned and child != name]


def _answer(
    model: Graphical,
    nodes: Mapping[str, Node],
    facts: Mapping[str, Fact],
    made: Particles,
    about: str,
    *,
    data: bool = False,
    alone: bool = False,
    rows: Sequence[int] | None = None,
    given: Mapping[str, Given] | None = None,
) -> Posterior:
    """Normalised weights, and what they are worth."""
    log_w, draws = made.log_weight.double(), made.log_weight.shape[-2]
    sums = list(range(log_w.dim() - 2))
    # About data, draws are of the posterior as the guide has it: only sums are normalised, draw by draw.
    log_w = torch.zeros_like(log_w) if data and not sums else log_w
    total = log_w if data and not sums else log_w.logsumexp(sums if data else [*sums, log_w.dim() - 2], keepdim=True)
    if bool((total == -torch.inf).any()):
        row = int((total == -torch.inf).flatten(0, -2).any(0).nonzero()[0])
        where = "" if alone else f" in row {row}"
        what = "cannot be" if draws == 1 else f"was met by none of {draws} draws"
        raise BadInputError(f"the evidence{where} {what} under this model: its probability is 0")
    weights = (log_w - total).exp() / (draws if data else 1)
    each = weights.sum(sums) if sums else weights
    effective = torch.full_like(each[0], torch.inf) if draws == 1 else 1 / each.square().sum(0)
    fewest = float(effective.min())
    if fewest < min(_FEW, draws / 2):
        warnings.warn(
            f"{fewest:.1f} effective of {draws} draws: few fit the evidence, and the answer is not to be relied on; give larger n, "
            "or fit with amortised=True",
            RuntimeWarning,
            stacklevel=3,
        )
    supports = {}
    for name, value in made.values.items():
        if facts[name].discrete:
            listed = facts[name].support
            supports[name] = value.unique() if listed is None else listed
    categories = {name: names for name in supports if (names := categories_of(model, name)) and len(names) == len(supports[name])}
    worth = "exact" if draws == 1 else f"{draws} draws" if data else f"{draws} draws, {fewest:.0f} effective"
    return Posterior(
        made.values,
        weights,
        supports,
        categories,
        alone,
        frozenset(name for name in made.values if data and nodes[name].shared),
        effective,
        rows,
        {name: (given or {})[name].known for name in made.values if name in (given or {})},
        f"{', '.join(made.values)} {about} ({worth})",
    )
