"""What was found of one gradient estimator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from reparam.diagnostics.tally import Tally, two_sided
from reparam.diagnostics.truth import Truth

__all__ = ["Finding", "Part", "find", "with_efficiency"]

# An error called a bias is one that chance makes once in a million comparisons.
_ALPHA = 1e-6
# The upper share of draws that tells how the tail falls, and the least number of them.
_TAIL, _FEWEST = 0.05, 20
_NORMAL_95 = 1.96


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
        bias: of a single number, mean minus truth; of several, the length of that vector less what chance adds to it. NaN where
            the truth is not known.
        bias_error: half of a 95 % confidence interval of it, with the truth's own error.
        biased: whether chance makes so large an error less than once in a million times.
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
        """Signal to noise: the length of the gradient over the root of the total variance; infinite without variance."""
        return self.norm / math.sqrt(self.variance) if self.variance else math.inf

    @property
    def efficiency(self) -> float:
        """1 / (variance x seconds); infinite without variance."""
        return 1 / (self.variance * self.seconds) if self.variance else math.inf

    @property
    def mean_squared_error(self) -> float:
        """Variance and squared bias of one estimate."""
        return self.variance + (0.0 if math.isnan(self.bias) else self.bias**2)


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
    rounding = 100 * tally.epsilon * max(float(tally.mean.abs().max()), 0.0 if truth is None else float(truth.gradient.abs().max()))
    variance = torch.where(tally.variance <= rounding**2, 0.0, tally.variance)
    signal = tally.mean if truth is None else truth.gradient
    gap = torch.full_like(signal, math.nan) if truth is None else tally.mean - truth.gradient
    slack = rounding + (0.0 if truth is None else truth.slack)
    gap = torch.sign(gap) * (gap.abs() - slack).clamp(min=0.0)
    error = variance / m + (0.0 if truth is None else truth.deviation**2)
    bias, bias_error = _length(gap, error)
    # Elements that were zero each time may be rare events that no draw met.
    unseen = (variance == 0) & (tally.mean == 0)
    tested = torch.where(unseen, 0.0, gap)
    biased = truth is not None and two_sided(tested, error.sqrt(), m / tally.kurtosis) < _ALPHA
    squares = torch.tensor(tally.squares, dtype=torch.float64)
    parts, at = {}, 0
    for part, size in sizes.items():
        of = slice(at, at + size)
        size_of_bias, _ = _length(gap[of], error[of])
        parts[part] = Part(size_of_bias, float(signal[of].norm()), float(variance[of].sum()))
        at += size
    total = float(variance.sum())
    return Finding(
        name=name,
        documented=documented,
        bias=bias,
        bias_error=bias_error,
        biased=biased,
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


def with_efficiency(findings: list[Finding]) -> list[Finding]:
    """With each efficiency as a share of the best one among those that have variance and are not known to be biased."""
    known = [f.efficiency for f in findings if 0 < f.efficiency < math.inf]
    fair = [f.efficiency for f in findings if 0 < f.efficiency < math.inf and not f.biased and f.documented is None]
    best = max(fair or known, default=math.nan)
    return [replace(f, relative=math.inf if f.variance == 0 else f.efficiency / best) for f in findings]


def _length(gap: Tensor, error: Tensor) -> tuple[float, float]:
    """A bias and the half-width of its 95 % interval: with its sign of one number, of several the length."""
    if gap.numel() == 1:
        return float(gap), _NORMAL_95 * float(error.sqrt())
    noise = float(error.sum())
    square = max(float(gap @ gap) - noise, 0.0)
    # Elements may move together: the variance of the squared length is at most that of one that has all of the noise.
    upper = square + _NORMAL_95 * math.sqrt(2 * noise**2 + 4 * float((gap**2) @ error))
    return math.sqrt(square), math.sqrt(upper) - math.sqrt(square)


def _tail_index(distances: Tensor) -> float:
    """Hill's estimate of the power that the tail falls by."""
    k = max(int(_TAIL * len(distances)), _FEWEST)
    if len(distances) < 5 * _FEWEST:
        return math.inf
    top = distances.topk(k + 1).values
    if top[-1] <= 0:
        return math.inf
    return k / max(float((top[:-1] / top[-1]).log().sum()), 1e-12)
