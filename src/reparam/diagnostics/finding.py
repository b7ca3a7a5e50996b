"""What was found of one gradient estimator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from reparam.diagnostics.tally import Tally, two_sided
from reparam.diagnostics.truth import Truth, unit

__all__ = ["Finding", "Part", "find", "with_efficiency"]

# An error called a bias is one that chance makes once in a million comparisons.
_ALPHA = 1e-6
# The upper share of draws that tells how the tail falls, and the least number of them.
_TAIL, _FEWEST = 0.05, 20
_NORMAL_95 = 1.96
# Sums of thousands of rows lose some digits: 1e-11 of the gradient in double precision, 1e-5 in single.
_ROUNDING = 0.7


@dataclass(frozen=True)
class Part:
    """Of one parameter: the size of the bias and of its true gradient, and the total variance of its elements."""

    bias: float
    norm: float
    variance: float

    @property
    def snr(self) -> float:
        return self.norm / math.sqrt(self.variance) if self.variance else math.inf


@dataclass(frozen=True)
class Finding:
    """A gradient estimator, measured.

    Attributes:
        name: of the entry.
        documented: the sentence by which the estimator says its own bias; None where it promises none.
        bias: of the mean, along the true gradient: above zero it is too long. Where that gradient is
            zero, the same as `bias_length`. NaN where the truth is not known.
        bias_error: half of a 95 % confidence interval of it, with the truth's own error.
        bias_length: of mean minus truth in all directions, less what chance adds to it.
        biased: whether chance makes so large an error, along the gradient or in any element, less than once in a million times
            (a long tail makes it more often); not said of fewer than 20 draws, which may be alike by chance.
        norm: the length of the true gradient (of the mean, where the truth is not known).
        variance: of an estimate, summed over all elements.
        variance_error: its standard error.
        seconds: a draw, forward and backward.
        relative: efficiency, 1 / (variance x seconds), of the best that has variance; infinite without variance.
        tail: Hill's index of the distances from the mean: moments of this order and above are infinite. Infinity for light tails.
        share: of the largest of the squared distances in their sum.
        draws: how many there were; `broken` of them were not finite and are left out.
        unseen: whether an element whose true gradient is not zero was zero in each draw.
        parts: the same by parameter.
        along: each draw's component along the true gradient.
    """

    name: str
    documented: str | None
    bias: float
    bias_error: float
    bias_length: float
    biased: bool
    norm: float
    variance: float
    variance_error: float
    seconds: float
    tail: float
    share: float
    draws: int
    broken: int
    unseen: bool = False
    parts: Mapping[str, Part] = field(default_factory=dict)
    along: tuple[float, ...] = field(default=(), repr=False)
    relative: float = math.nan

    @property
    def snr(self) -> float:
        """Signal to noise: the length of the gradient over the root of the total variance.

        Infinite without variance, NaN where there is no gradient either.
        """
        if self.variance:
            return self.norm / math.sqrt(self.variance)
        return math.inf if self.norm else math.nan

    @property
    def nothing_to_see(self) -> bool:
        """Whether the true gradient is known, and zero."""
        return self.norm == 0 and not math.isnan(self.bias)

    @property
    def tail_bound(self) -> float:
        """The upper end of a 95 % interval of the tail's index."""
        return self.tail * (1 + _NORMAL_95 / math.sqrt(_tail_size(self.draws)))

    @property
    def efficiency(self) -> float:
        """1 / (variance x seconds); infinite without variance."""
        return 1 / (self.variance * self.seconds) if self.variance else math.inf

    @property
    def mean_squared_error(self) -> float:
        """Variance and squared bias of one estimate."""
        return self.variance + (0.0 if math.isnan(self.bias_length) else self.bias_length**2)


def find(name: str, documented: str | None, tally: Tally, truth: Truth | None, sizes: Mapping[str, int]) -> Finding:
    """What a tally says, against the truth where there is one.

    Args:
        name: of the entry.
        documented: its own word on its bias.
        tally: of its draws.
        truth: what the gradient is.
        sizes: elements of each parameter, in order.
    """
    m = max(tally.count, 1)
    # Where the true gradient is zero the size of the mean, noise or bias, is no measure of its digits: that of the terms is.
    digits = tally.epsilon**_ROUNDING * max(
        float(tally.mean.abs().max()), 0.0 if truth is None else float(truth.gradient.abs().max())
    )
    rounding = max(digits, 0.0 if truth is None else truth.rounding)
    variance = torch.where(tally.variance <= rounding**2, 0.0, tally.variance)
    signal = tally.mean if truth is None else truth.gradient
    gap = torch.full_like(signal, math.nan) if truth is None else tally.mean - truth.gradient
    slack = rounding + (0.0 if truth is None else truth.slack)
    gap = torch.sign(gap) * (gap.abs() - slack).clamp(min=0.0) + 0.0
    error = variance / m + (0.0 if truth is None else truth.deviation**2)
    bias, bias_error, chance_along = (math.nan, math.nan, 1.0) if truth is None else _along(tally, truth, rounding)
    if truth is not None and truth.is_zero:  # there is no direction to be off in
        bias, bias_error = _length(gap, error), _NORMAL_95 * math.sqrt(float(error.sum()))
    # Elements that were zero each time may be rare events that no draw met.
    unseen = (variance == 0) & (tally.mean == 0)
    tested = torch.where(unseen, 0.0, gap)
    chance = 2 * min(two_sided(tested, error.sqrt(), m / tally.kurtosis), chance_along if bool(tested.any()) else 1.0)
    squares = torch.tensor(tally.squares, dtype=torch.float64)
    parts, at = {}, 0
    for part, size in sizes.items():
        of = slice(at, at + size)
        parts[part] = Part(_length(gap[of], error[of]), float(signal[of].norm()), float(variance[of].sum()))
        at += size
    total = float(variance.sum())
    return Finding(
        name=name,
        documented=documented,
        bias=bias,
        bias_error=bias_error,
        bias_length=_length(gap, error),
        biased=truth is not None and tally.count >= _FEWEST and chance < _ALPHA,
        norm=float(signal.norm()),
        variance=total if tally.count > 1 else math.nan,
        variance_error=tally.total_variance[1] if total else 0.0,
        seconds=tally.time,
        tail=_tail_index(squares.sqrt()) if total else math.inf,
        share=float(squares.max() / squares.sum()) if total else 0.0,
        draws=tally.count,
        broken=tally.broken,
        parts=parts,
        unseen=truth is not None and bool((unseen & (gap != 0)).any()),
        along=tuple(tally.along),
    )


def _along(tally: Tally, truth: Truth, rounding: float) -> tuple[float, float, float]:
    """The mean's distance from the truth along it, half of its 95 % interval, and the chance of it: many small errors show here."""
    x = torch.tensor(tally.along, dtype=torch.float64)
    if len(x) < 2:
        return math.nan, math.nan, 1.0
    direction = unit(truth.gradient)
    gap = x.mean() - truth.gradient @ direction
    # Errors of the truth may all go one way, and roundings add up.
    error = (x.var() / len(x) + (direction.abs() @ truth.deviation) ** 2).sqrt()
    slack = direction.abs() @ (truth.slack + rounding)
    kurtosis = ((x - x.mean()) ** 4).mean() / x.var() ** 2 if x.var() > rounding**2 else torch.tensor(3.0)
    gap = torch.where(gap.abs() > slack, gap, 0.0)
    return float(gap), _NORMAL_95 * float(error), two_sided(gap[None], error[None], (len(x) / kurtosis)[None])


def with_efficiency(findings: list[Finding]) -> list[Finding]:
    """With each efficiency as a share of the best one among those that have variance and are not known to be biased."""
    known = [f.efficiency for f in findings if 0 < f.efficiency < math.inf]
    fair = [f.efficiency for f in findings if 0 < f.efficiency < math.inf and not f.biased and f.documented is None]
    best = max(fair or known, default=math.nan)
    return [replace(f, relative=math.inf if f.variance == 0 else f.efficiency / best) for f in findings]


def _length(gap: Tensor, error: Tensor) -> float:
    """The length of a bias, less what chance adds to it."""
    return math.sqrt(max(float(gap @ gap) - float(error.sum()), 0.0)) if bool(gap.isfinite().all()) else math.nan


def _tail_size(draws: int) -> int:
    return max(int(_TAIL * draws), _FEWEST)


def _tail_index(distances: Tensor) -> float:
    """Hill's estimate of the power that the tail falls by."""
    k = _tail_size(len(distances))
    if len(distances) < 5 * _FEWEST:
        return math.inf
    top = distances.topk(k + 1).values
    if top[-1] <= 0:
        return math.inf
    return k / max(float((top[:-1] / top[-1]).log().sum()), 1e-12)
