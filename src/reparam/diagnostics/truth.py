"""What the gradient is, to compare estimates with: enumerated, integrated, or from a long unbiased run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from reparam.diagnostics.tally import Tally, take, two_sided
from reparam.diagnostics.terms import rounding
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
# A rule of thousands of nodes rounds more often than a sum of a few.
_SUM_OF_MANY = 8


@dataclass(frozen=True)
class Truth:
    """The gradient of an expectation, flattened over all parameters, in float64.

    Attributes:
        gradient: its value.
        deviation: its standard error; zero where it is computed.
        slack: by how much it may be off beside that: of a quadrature, what more nodes changed.
        how: where it comes from, in words.
        rounding: what the arithmetic of its terms may add to it, or to an estimate.
    """

    gradient: Tensor
    deviation: Tensor
    slack: Tensor
    how: str
    rounding: float = 0.0

    @property
    def is_zero(self) -> bool:
        return bool((self.gradient == 0).all())


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().double().flatten().to("cpu") for t in tensors])


def unit(gradient: Tensor) -> Tensor:
    """The direction of a gradient; where it is zero, one that no symmetry of a law singles out.

    In that of all ones, say, the gradient in the logits of a choice has no noise: adding a constant to them changes nothing.
    """
    length = gradient.norm()
    return gradient / length if length > 0 else _any_direction(gradient)


def _any_direction(like: Tensor) -> Tensor:
    wave = torch.arange(1, like.numel() + 1, dtype=like.dtype, device=like.device).sin().reshape(like.shape)
    direction: Tensor = wave / wave.norm().clamp(min=1e-12)
    return direction


def exactly(gradient: Tensor, how: str, slack: Tensor | None = None, off: float = 0.0) -> Truth:
    """A truth that is computed; one that is within rounding, `off`, and slack of zero is zero."""
    zero = torch.zeros_like(gradient)
    slack = zero if slack is None else slack
    return Truth(zero if bool((gradient.abs() <= slack + off).all()) else gradient, zero, slack, how, off)


def find_truth(
    f: Cost, q: Distribution, parameters: Sequence[Tensor], n: int, source: Source | None, seconds: float, off: float = 0.0
) -> tuple[Truth, list[str]]:
    """The best truth there is, with notes: the exact sum, a rule of nodes, or a long run for at most `seconds`.

    What is not above `off` is rounding.
    """
    with torch.no_grad():
        summed = len(q.batch_shape) - (f(sample(q, (2,))).dim() - 1)
    # What the cost sums is one event: a batch would be enumerated element by element.
    joint = Independent(q, summed) if summed > 0 else q

    def gradient(estimator: Estimator) -> Tensor:
        value = expect(f, joint, estimator=estimator).sum()
        return flat(torch.autograd.grad(value, list(parameters), retain_graph=True, allow_unused=True, materialize_grads=True))

    try:
        return exactly(gradient(Enumerate()), "the sum over all values", None, off), []
    except (ValueError, NotImplementedError):
        pass
    for finer in (_longer_sum, _more_nodes):
        try:
            fine, coarse, how = finer(joint)
            found = gradient(fine)
            moved = (found - gradient(coarse)).abs()
        except (ValueError, NotImplementedError):
            continue
        if bool(moved.isfinite().all()) and moved.norm() <= _COARSE * found.norm() + off * len(found) ** 0.5 + 1e-12:
            return exactly(found, how, moved + _SUM_OF_MANY * off, off), []

    def loss(estimator: Estimator) -> Callable[[], Tensor]:
        return lambda: expect(f, q, estimator=estimator, n=_LONGER * n, source=source)

    return long_run({"LeaveOneOut": loss(LeaveOneOut()), "Pathwise": loss(Pathwise())}, parameters, seconds, off)


def _longer_sum(_: Distribution) -> tuple[Estimator, Estimator, str]:
    """Two sums over the values of a law of counts, the second of fewer."""
    return Enumerate(tail=1e-12), Enumerate(tail=1e-8), "the sum over all values but a tail of 1e-12"


def _more_nodes(q: Distribution) -> tuple[Estimator, Estimator, str]:
    """Two quadratures, the second of fewer nodes."""
    nodes = nodes_each(q)
    return Quadrature(nodes), Quadrature(max(2, 2 * nodes // 3)), f"quadrature with {nodes} nodes a component"


def long_run(
    losses: Mapping[str, Callable[[], Tensor]], parameters: Sequence[Tensor], seconds: float, off: float = 0.0
) -> tuple[Truth, list[str]]:
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
    off = max(off, rounding(float((tally.variance + tally.mean**2).max().sqrt()), parameters))
    mean, deviation = tally.mean, (tally.variance / max(tally.count, 1)).sqrt()
    if bool((mean.abs() + deviation <= off).all()):
        mean = torch.zeros_like(mean)
    return Truth(mean, deviation, torch.zeros_like(mean), how, off), notes


def _difference(a: Tally, b: Tally) -> tuple[Tensor, Tensor]:
    deviation = (a.variance / max(a.count, 1) + b.variance / max(b.count, 1)).sqrt()
    error = b.mean - a.mean
    # Rounding is no disagreement.
    rounding = 1e-5 * torch.maximum(a.mean.abs(), b.mean.abs()).max()
    return torch.where(error.abs() <= rounding, 0.0, error), deviation
