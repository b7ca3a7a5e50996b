"""What would be if a variable of a graphical model were seen, or set."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.errors import BadInputError
from reparam.noise import Fresh
from reparam.report import laws
from reparam.report.graphical import View, view
from reparam.report.graphical_classes import MOST, told
from reparam.report.pieces import Figure, Section, Subject

__all__ = ["what_if"]

# Values that are seen and that are set, draws for each, of which so many must fit in effect, and simulated rows from which it is
# seen what goes with what.
_SEEN, _SET, _DRAWS, _FEW, _ROWS = 49, 9, 1500, 30, 2000
# Shares of a variance that one variable tells of another, below which nothing is to be seen.
_LEAST = 0.02


def what_if(subject: Subject) -> Section | None:
    """How the law of one variable moves as another one is seen, and as it is set."""
    rows = view(subject)
    model = rows.model
    chosen, fixed = _pair(rows, subject), _fixed(rows)
    if chosen is None or fixed is None:
        return None
    target, cause, values = chosen
    given = model.nodes[cause].law is None
    fixed.pop(cause, None)
    at = np.linspace(np.quantile(values, 0.01), np.quantile(values, 0.99), _SEEN)
    set_at = at[:: (_SEEN - 1) // (_SET - 1)]
    evidence = {cause: torch.from_numpy(at).float(), **{name: [value] * _SEEN for name, value in fixed.items()}}
    seen = _answered(model, target, evidence, subject.source)
    # With the same noise for each value, so that what does not move does not look as if it did.
    again = [Fresh(torch.Generator().manual_seed(1)) for _ in set_at] if not given else []
    moved = [
        _answered(model.do({cause: value}), target, fixed, source) for value, source in zip(set_at.tolist(), again, strict=False)
    ]
    if seen is None or np.isnan(seen[0]).mean() > 0.5 or any(found is None for found in moved):
        return None
    law, kinds = seen
    settled = np.concatenate([found[0] for found in moved if found is not None]) if moved else None
    held = "; ".join(f"{name} is {value if isinstance(value, str) else f'{value:.3g}'}" for name, value in fixed.items())
    lead = f"The line is what a new row's {target} is taken to be {'at each' if given else 'once its'} {cause}"
    if not given:
        lead += (
            f" is seen. Dotted what it would be if {cause} were set from outside, do({cause} = …): then {cause} says nothing of "
            "what comes before it in the graph"
        )
    lead += f"; here {held}." if held else "."
    marks = values[:150]
    if kinds:
        curves = {kind: law[:, k] for k, kind in enumerate(kinds)}
        dotted = None if settled is None else {kind: settled[:, k] for k, kind in enumerate(kinds)}
        chart = laws.moves("what-if", f"P({target})", at, curves, cause, set_at=set_at, set_to=dotted, rug=marks)
        caption = f"Probabilities of {target}. Marks below are data."
    else:
        ends = [(law[:, 0], law[:, 2])]
        line = None if settled is None else settled[:, 1]
        points = _points(rows, cause, target)
        chart = laws.bands(
            "what-if", target, at, law[:, 1], ends, cause, set_at=set_at, set_to=line, rug=marks, points=points
        )  # fmt: skip
        caption = f"The median of {target}, and the range that holds it with probability 90%. Marks below are data."
    if np.isnan(law).any():
        caption += " Where too few draws fit what is seen nothing is drawn."
    return Section("What if", lead, [Figure(caption, [chart])])


def _fixed(rows: View) -> dict[str, float | str] | None:
    """Values of the nodes without law: the middle of numbers, the most frequent category; None where one is a vector."""
    columns, (values, _) = rows.model.columns, rows.read()
    made: dict[str, float | str] = {}
    for name in (name for name, node in rows.model.nodes.items() if node.law is None):
        if values[name].dim() > 1:
            return None
        kinds = columns.categories.get(columns.names[columns.places[name][0]])
        made[name] = float(values[name].double().median()) if kinds is None else kinds[int(values[name].mode().values)]
    return made


def _answered(model: Any, target: str, evidence: Mapping[str, Any], source: Fresh) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Probabilities of the values of the target, rows x K, and their names; or 5%, 50% and 95% quantiles, rows x 3, and no names.

    NaN where too few draws fit the evidence; None where it cannot be.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of few effective draws
        try:
            found = model.posterior(target, evidence, n=_DRAWS, source=source)
        except BadInputError:
            return None
    kinds: tuple[str, ...] = ()
    if target in found.supports:
        law = found.probs(target).double().numpy()
        kinds = found.categories.get(target) or tuple(f"{target} {value:g}" for value in found.support(target).tolist())
    else:
        law = np.moveaxis(found.quantile(target, (0.05, 0.5, 0.95)).double().numpy(), 0, -1)
    law = law.reshape(-1, law.shape[-1])
    return np.where((found.effective.numpy() < _FEW)[:, None], np.nan, law), kinds


def _pair(view: View, subject: Subject) -> tuple[str, str, np.ndarray] | None:
    """What is asked for, what is seen, and data of it: the two that go together most, a discrete target first."""
    model, (values, there) = view.model, view.read()
    columns = model.columns
    n = len(view.x)
    draws = model.simulate(n * -(-_ROWS // n), source=subject.source)
    seen = [
        name
        for name in there
        if columns.places[name][0] in columns.numbers and len(columns.places[name]) == 1 and int(there[name].sum()) >= 5
    ]
    # What is given is so for each training row, in their order.
    draws |= {name: values[name].repeat(-(-_ROWS // n)) for name in seen if model.nodes[name].law is None}
    targets = [
        name for name, node in model.nodes.items()
        if not node.shared and node.law is not None and draws[name].dim() == 1 and float(draws[name].double().var()) > 0
    ]  # fmt: skip
    best: tuple[tuple[bool, bool, float], str, str] | None = None
    for target in targets:
        discrete = target in model.enumerated or bool(columns.categories.get(target))
        if discrete and not 2 <= len(draws[target].unique()) <= MOST:
            continue
        for cause in seen:
            if cause == target or not _related(model.nodes, cause, target):
                continue
            strength = told(draws[cause].double(), draws[target].long()) if discrete else _squared(draws[cause], draws[target])
            rank = (strength >= _LEAST, model.nodes[cause].law is not None and discrete, strength)
            if best is None or rank > best[0]:
                best = (rank, target, cause)
    if best is None or not best[0][0]:
        return None
    _, target, cause = best
    return target, cause, values[cause][there[cause]].double().numpy()


def _points(rows: View, cause: str, target: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Data of both, where both are columns."""
    values, there = rows.read()
    if target not in there:
        return None
    both = there[cause] & there[target]
    return values[cause][both].double().numpy(), values[target][both].double().numpy()


def _related(nodes: Mapping[str, Any], a: str, b: str) -> bool:
    return bool(_above(nodes, a) & _above(nodes, b))


def _above(nodes: Mapping[str, Any], name: str) -> set[str]:
    return {name}.union(*(_above(nodes, parent) for parent in nodes[name].parents or ()))


def _squared(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1].square())
