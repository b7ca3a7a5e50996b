"""What the gradient is, to compare estimates with: enumerated, integrated, or from a long unbiased run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from reparam.diagnostics.tally import Tally, take, two_sided
from reparam.estimators import Enumerate, Estimator, LeaveOneOut, Pathwise, expect
from reparam.estimators.quadrature import Quadrature, nodes_each
from reparam.noise import Source
from reparam.paths import sample

__all__ = ["Truth", "exactly", "find_truth", "flat", "long_run", "unit"]

Cost = Callable[[Tensor], Tensor]

# Rows of a call of a long run, in units of those of an estimate: fewer calls for the same work.
_LONGER = 16
_MOST_RUNS = 4000
# Disagreement this unlikely is none of chance.
_ALPHA = 1e-6
# What still moves by this share of the gradient, with more nodes or values, is no truth.
_COARSE = 1e-2


@dataclass(frozen=True)
class Truth:
    """The gradient of an expectation, flattened over all parameters, in float64.

    Attributes:
        gradient: its value.
        deviation: its standard error; zero where it is computed.
        slack: by how much it may be off beside that: of a quadrature, what more nodes changed.
        how: where it comes from, in words.
    """

    gradient: Tensor
    deviation: Tensor
    slack: Tensor
    how: str


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().double().flatten().to("cpu") for t in tensors])


def unit(gradient: Tensor) -> Tensor:
    """The direction of a gradient; where it is zero, that in which all elements grow."""
    length = gradient.norm()
    return gradient / length if length > 0 else torch.full_like(gradient, 1 / max(gradient.numel(), 1) ** 0.5)


def exactly(gradient: Tensor, how: str, slack: Tensor | None = None) -> Truth:
    zero = torch.zeros_like(gradient)
    return Truth(gradient, zero, zero if slack is None else slack, how)


def find_truth(
    f: Cost, q: Distribution, parameters: Sequence[Tensor], n: int, source: Source | None, seconds: float
) -> tuple[Truth, list[str]]:
    """The best truth there is, with notes: the exact sum, a rule of nodes, or a long run for at most `seconds`."""
    with torch.no_grad():
        summed = len(q.batch_shape) - (f(sample(q, (2,))).dim() - 1)
    # What the cost sums is one event: a batch would be enumerated element by element.
    joint = Independent(q, summed) if summed > 0 else q

    def gradient(estimator: Estimator) -> Tensor:
        value = expect(f, joint, estimator=estimator).sum()
        return flat(torch.autograd.grad(value, list(parameters), retain_graph=True, allow_unused=True, materialize_grads=True))

    try:
        return exactly(gradient(Enumerate()), "the sum over all values"), []
    except (ValueError, NotImplementedError):
        pass
    for finer in (_longer_sum, _more_nodes):
        try:
            fine, coarse, how = finer(joint)
            found = gradient(fine)
            moved = (found - gradient(coarse)).abs()
        except (ValueError, NotImplementedError):
            continue
        if bool(moved.isfinite().all()) and moved.norm() <= _COARSE * found.norm() + 1e-12:
            return exactly(found, how, moved), []

    def loss(estimator: Estimator) -> Callable[[], Tensor]:
        return lambda: expect(f, q, estimator=estimator, n=_LONGER * n, source=source)

    return long_run({"LeaveOneOut": loss(LeaveOneOut()), "Pathwise": loss(Pathwise())}, parameters, seconds)


def _longer_sum(_: Distribution) -> tuple[Estimator, Estimator, str]:
    """Two sums over the values of a law of counts, the second of fewer."""
    return Enumerate(tail=1e-12), Enumerate(tail=1e-8), "the sum over all values but a tail of 1e-12"


def _more_nodes(q: Distribution) -> tuple[Estimator, Estimator, str]:
    """Two quadratures, the second of fewer nodes."""
    nodes = nodes_each(q)
    return Quadrature(nodes), Quadrature(max(2, 2 * nodes // 3)), f"quadrature with {nodes} nodes a component"


def long_run(losses: Mapping[str, Callable[[], Tensor]], parameters: Sequence[Tensor], seconds: float) -> tuple[Truth, list[str]]:
    """The mean gradient of unbiased losses over many draws: that of the least noise, if the others agree, else of the first.

    Losses that refuse are left out. The score function comes first: it is right for costs with steps, too.
    """
    tallies: dict[str, Tally] = {}
    refusals: list[str] = []
    for name, loss in losses.items():
        try:
            tallies[name] = Tally(loss, parameters)
        except (ValueError, NotImplementedError, RuntimeError) as error:
            refusals.append(f"{name}: {error}")
    if not tallies:
        raise ValueError(f"no unbiased estimator serves for a long run ({'; '.join(refusals)}): give the true gradient by exact=")
    take(list(tallies.values()), _MOST_RUNS, seconds)
    first, *others = tallies
    best = min(tallies, key=lambda name: tallies[name].total_variance[0])
    notes = []
    for other in others:
        a, b = tallies[first], tallies[other]
        gap, deviation = _difference(a, b)
        freedom = torch.minimum(a.count / a.kurtosis, b.count / b.kurtosis)
        if two_sided(gap, deviation, freedom) < _ALPHA:
            notes.append(
                f"{other} and {first} disagree on the gradient: the cost has a step, or is cut from the graph, where {other} sees "
                f"nothing of it. {first} is taken for the truth."
            )
            best = first
    tally = tallies[best]
    how = f"a long run of {best}, {tally.count} draws"
    return Truth(tally.mean, (tally.variance / max(tally.count, 1)).sqrt(), torch.zeros_like(tally.mean), how), notes


def _difference(a: Tally, b: Tally) -> tuple[Tensor, Tensor]:
    deviation = (a.variance / max(a.count, 1) + b.variance / max(b.count, 1)).sqrt()
    error = b.mean - a.mean
    # Rounding is no disagreement.
    rounding = 1e-5 * torch.maximum(a.mean.abs(), b.mean.abs()).max()
    return torch.where(error.abs() <= rounding, 0.0, error), deviation
