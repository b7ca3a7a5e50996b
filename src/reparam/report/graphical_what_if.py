"""What would be if a variable of a graphical model were seen, or set."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from reparam.errors import BadInputError
from reparam.report import laws
from reparam.report.graphical import View, view
from reparam.report.graphical_classes import MOST, told
from reparam.report.pieces import Figure, Section, Subject

__all__ = ["what_if"]

# Values that are seen and that are set, draws for each, and simulated rows from which it is seen what goes with what.
_SEEN, _SET, _DRAWS, _ROWS = 65, 9, 1000, 2000
T = TypeVar("T")


def what_if(subject: Subject) -> Section | None:
    """How the law of one variable moves as another one is seen, and as it is set."""
    rows = view(subject)
    model = rows.model
    chosen = _pair(rows, subject)
    if chosen is None:
        return None
    target, cause, values = chosen
    at = np.linspace(np.quantile(values, 0.01), np.quantile(values, 0.99), _SEEN)
    set_at = at[:: (_SEEN - 1) // (_SET - 1)]
    known, _ = rows.read()
    given = [name for name, node in model.nodes.items() if node.law is None]
    if any(known[name].dim() > 1 for name in given):
        return None
    fixed = {name: float(known[name].double().median()) for name in given}

    def seen_at() -> Any:
        evidence = {cause: torch.from_numpy(at).float(), **{name: torch.full((_SEEN,), value) for name, value in fixed.items()}}
        return model.posterior(target, evidence, n=_DRAWS, source=subject.source)

    def set_to() -> list[Any]:
        found = []
        for value in set_at.tolist():
            changed = model.do({cause: value})
            found.append(changed.posterior(target, dict(fixed), n=_DRAWS, source=subject.source))
        return found

    seen, moved = _asked(seen_at), _asked(set_to)
    if seen is None:
        return None
    held = "; ".join(f"{name} is {value:.3g}" for name, value in fixed.items())
    lead = (
        f"The line is what a new row's {target} is taken to be once its {cause} is seen. Dotted what it would be if {cause} were "
        f"set from outside, do({cause} = …): then {cause} says nothing of what comes before it in the graph."
    )
    lead += f" In both {held}." if held else ""
    draw = _of_kinds if target in seen.supports else _of_numbers
    return Section("What if", lead, [draw(target, cause, at, seen, set_at, moved, values)])


def _of_kinds(
    target: str, cause: str, at: np.ndarray, seen: Any, set_at: np.ndarray, moved: list[Any] | None, values: np.ndarray
) -> Figure:
    names = seen.categories.get(target) or tuple(f"{target} {k}" for k in range(len(seen.support(target))))
    p = seen.probs(target).double().numpy()
    q = None if moved is None else np.stack([found.probs(target).double().numpy().reshape(-1) for found in moved])
    curves = {kind: p[:, k] for k, kind in enumerate(names)}
    dotted = None if q is None else {kind: q[:, k] for k, kind in enumerate(names)}
    chart = laws.moves("what-if", f"P({target})", at, curves, cause, set_at=set_at, set_to=dotted, rug=values[:150])
    return Figure(f"Probabilities of {target}. Marks below are data.", [chart])


def _of_numbers(
    target: str, cause: str, at: np.ndarray, seen: Any, set_at: np.ndarray, moved: list[Any] | None, values: np.ndarray
) -> Figure:
    low, middle, high = (line.double().numpy() for line in seen.quantile(target, (0.05, 0.5, 0.95)))
    dotted = None if moved is None else np.array([float(found.quantile(target, 0.5)) for found in moved])
    chart = laws.bands(
        "what-if", target, at, middle, [(low, high)], cause, set_at=set_at, set_to=dotted, rug=values[:150]
    )  # fmt: skip
    return Figure(f"The median of {target}, and the range that holds it with probability 90%. Marks below are data.", [chart])


def _asked(question: Callable[[], T]) -> T | None:
    """The answer, where there is one that can be relied on."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return question()
        except (BadInputError, RuntimeWarning):
            return None


def _pair(view: View, subject: Subject) -> tuple[str, str, np.ndarray] | None:
    """What is asked for, what is seen, and data of it: the two that go together most, a discrete target first."""
    model, (values, there) = view.model, view.read()
    columns = model.columns
    draws = model.simulate(_ROWS, source=subject.source)
    seen = [
        name
        for name in there
        if model.nodes[name].law is not None and columns.places[name][0] in columns.numbers and int(there[name].sum()) >= 5
        and len(columns.places[name]) == 1
    ]  # fmt: skip
    targets = [
        name for name, node in model.nodes.items()
        if not node.shared and node.law is not None and draws[name].dim() == 1 and float(draws[name].double().var()) > 0
    ]  # fmt: skip
    best: tuple[tuple[bool, float], str, str] | None = None
    for target in targets:
        discrete = target in model.enumerated or bool(columns.categories.get(target))
        if discrete and not 2 <= len(draws[target].unique()) <= MOST:
            continue
        for cause in seen:
            if cause == target or not _related(model.nodes, cause, target):
                continue
            strength = told(draws[cause].double(), draws[target].long()) if discrete else _squared(draws[cause], draws[target])
            if best is None or (discrete, strength) > best[0]:
                best = ((discrete, strength), target, cause)
    if best is None or best[0][1] < 0.02:
        return None
    _, target, cause = best
    return target, cause, values[cause][there[cause]].double().numpy()


def _related(nodes: Mapping[str, Any], a: str, b: str) -> bool:
    return bool(_above(nodes, a) & _above(nodes, b))


def _above(nodes: Mapping[str, Any], name: str) -> set[str]:
    return {name}.union(*(_above(nodes, parent) for parent in nodes[name].parents or ()))


def _squared(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1].square())
