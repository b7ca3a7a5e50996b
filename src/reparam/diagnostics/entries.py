"""What is to be compared: estimators with their noise, by name; and the parameters that gradients are taken in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from reparam import estimators as _estimators
from reparam.estimators import Enumerate, Estimator, GumbelSoftmax, MovingAverage, Pathwise, Score
from reparam.estimators.estimator import check_estimator
from reparam.noise import Antithetic, Fresh, Sobol, Source
from reparam.paths.parameters import map_parameters

__all__ = ["Candidate", "Entry", "candidates", "named", "parameters_of"]

Entry = Estimator | tuple[Estimator, Source | Callable[[], Source] | None]
"""An estimator, or one with the noise that it is to use: a source, or a function that makes one."""

# For the comparison of all that there are: arguments of estimators that have no defaults for them, and further forms of some.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "GumbelRao": {"temperature": 0.5, "k": 10},
    "GumbelSinkhorn": {"temperature": 0.5},
    "GumbelSoftmax": {"temperature": 0.5},
    "SumAndSample": {"k": 2},
}
_VARIANTS: dict[str, Callable[[], list[Entry]]] = {
    "Enumerate": lambda: [Enumerate(tail=1e-9)],
    "GumbelSoftmax": lambda: [GumbelSoftmax(0.5, hard=True)],
    "Pathwise": lambda: [(Pathwise(), Antithetic()), (Pathwise(), Sobol(seed=0))],
    "Score": lambda: [Score(MovingAverage())],
}


@dataclass(frozen=True)
class Candidate:
    """An estimator and its noise (None: that of the call)."""

    estimator: Estimator
    source: Source | None = None


def named(entries: Iterable[Entry] | Mapping[str, Entry]) -> dict[str, Candidate]:
    """Entries by name: the one given, or the estimator's class with what is not its default, and its noise."""
    if isinstance(entries, Mapping):
        return {str(name): _candidate(entry) for name, entry in entries.items()}
    if hasattr(entries, "draw"):
        raise TypeError(f"estimators is a list or a dict of them by name: wrap the one, [{short(entries)}]")
    found = [_candidate(entry) for entry in entries]
    names = [
        short(c.estimator) + (f", {type(c.source).__name__.lower()}" if c.source is not None else "").replace("sobol", "Sobol")
        for c in found
    ]
    seen: Counter[str] = Counter()
    unique = {}
    for name, candidate in zip(names, found, strict=True):
        seen[name] += 1
        unique[name if seen[name] == 1 else f"{name} ({seen[name]})"] = candidate
    return unique


def _candidate(entry: Any) -> Candidate:
    if not isinstance(entry, tuple):
        return Candidate(check_estimator(entry))
    if len(entry) != 2:
        raise TypeError(f"an entry is an estimator, or a pair of one and a noise source; got a tuple of {len(entry)}")
    estimator, source = entry
    made = source() if isinstance(source, type) or (callable(source) and not hasattr(source, "draw")) else source
    if made is not None and not hasattr(made, "draw"):
        raise TypeError(f"{made!r} is no noise source: give one such as rp.Antithetic(), or a function that makes one")
    return Candidate(check_estimator(estimator), made)


def short(estimator: Any) -> str:
    """The class, with the settings that are not its defaults."""
    name = type(estimator).__name__
    if not is_dataclass(estimator):
        return name
    changed = []
    for field in fields(estimator):
        value = getattr(estimator, field.name)
        if isinstance(value, int | float | str | bool) and field.repr and value != field.default:
            changed.append(f"{field.name}={value:g}" if isinstance(value, float) else f"{field.name}={value}")
        elif isinstance(value, nn.Module):
            changed.append(type(value).__name__)
    return f"{name}({', '.join(changed)})" if changed else name


def candidates(trial: Callable[[Candidate], object]) -> tuple[dict[str, Candidate], dict[str, str]]:
    """All estimators there are that serve, by name, the pathwise one under three kinds of noise; and of the others, why not.

    Args:
        trial: draws once; what it raises is the reason.
    """
    entries: list[Entry] = []
    left_out: dict[str, str] = {}
    for name in _estimators.__all__:
        kind = getattr(_estimators, name)
        if not (isinstance(kind, type) and hasattr(kind, "draw") and hasattr(kind, "weigh")) or kind is Estimator:
            continue
        try:
            entries.append(kind(**_ARGUMENTS.get(name, {})))
        except TypeError:
            left_out[name] = "it has parts that only its user can choose, such as a surrogate or a baseline"
            continue
        entries += _VARIANTS.get(name, lambda: [])()
    serve = {}
    for name, candidate in named(entries).items():
        try:
            trial(candidate)
        except Exception as error:  # a cost that cannot bear what an estimator asks of it may raise anything
            left_out[name] = str(error).split("\n")[0]
        else:
            serve[name] = candidate
    if len({"Enumerate", "Enumerate(tail=1e-09)"} & set(serve)) == 2:  # all values are there: leaving none out is the same
        del serve["Enumerate(tail=1e-09)"]
    return serve, left_out


def parameters_of(q: Distribution) -> dict[str, Tensor]:
    """The leaves of the graph of the tensors of `q` that require a gradient, by name.

    A leaf that alone makes a parameter of the law, and only that one, has its name; the others are numbered.
    """
    leaves: list[Tensor] = []

    def collect(t: Tensor) -> Tensor:
        leaves.extend(_leaves(t))
        return t

    map_parameters(q, collect)
    unique = list({id(leaf): leaf for leaf in leaves}.values())
    base: Distribution = q
    while isinstance(base, Independent):
        base = base.base_dist
    behind = {name: _leaves(value) for name, value in vars(base).items() if name in base.arg_constraints}
    names = []
    for number, leaf in enumerate(unique):
        mine = [name for name, made_of in behind.items() if any(leaf is other for other in made_of)]
        names.append(mine[0] if len(mine) == 1 and len(behind[mine[0]]) == 1 else f"parameter {number}")
    return dict(zip(names, unique, strict=True))


def _leaves(t: object) -> list[Tensor]:
    if not isinstance(t, Tensor) or not t.requires_grad:
        return []
    if t.grad_fn is None:
        return [t]
    found: dict[int, Tensor] = {}
    seen, left = {t.grad_fn}, [t.grad_fn]
    while left:
        node = left.pop()
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            found[id(leaf)] = leaf
        for before, _ in node.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                left.append(before)
    return list(found.values())


def as_parameters(given: Mapping[str, Tensor] | Sequence[Tensor] | Tensor | None, q: Distribution | None) -> dict[str, Tensor]:
    """The parameters by name: those given, or those of `q`."""
    if given is None:
        found = {} if q is None else parameters_of(q)
        if not found:
            raise ValueError(
                "no tensor of the distribution requires a gradient: make it from one that does, or name what to differentiate in "
                "by parameters=[...]"
            )
        return found
    if isinstance(given, Mapping):
        found = dict(given)
    else:
        tensors = [given] if isinstance(given, Tensor) else list(given)
        found = {f"parameter {i}" if len(tensors) > 1 else "parameter": t for i, t in enumerate(tensors)}
    for name, tensor in found.items():
        if not isinstance(tensor, Tensor) or not tensor.requires_grad:
            raise ValueError(f"{name} is to be differentiated in and requires no gradient: {type(tensor).__name__}")
    if not found:
        raise ValueError("give at least one parameter")
    return found


def independent(source: Source | None) -> Source | None:
    """The source, or fresh noise where its rows depend on each other."""
    return source if source is None or getattr(source, "independent", True) else Fresh()
