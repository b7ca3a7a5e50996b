"""Statistical checks that state what they promise: a false-alarm rate, and the smallest error that they would catch.

A check returns a [`Verdict`][reparam.stats.Verdict]; write `assert verdict, verdict` in a test. Laws are checked through
their probability transform `u = F(x)`, in float64, so that heavy tails are as easy as light ones. No single check sees
every fault (a Kolmogorov distance is blind in the tails, moments to atoms), so [`law_tests`][reparam.stats.law_tests]
makes three. Values outside of [0, 1], NaN among them, fail every check of a law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Verdict", "chi2_test", "detectable_mean", "dkw_test", "law_tests", "mean_test", "normal_score_tests"]

# Upper and lower tails with their own cells, where so many are expected.
_TAIL_CELLS = (1e-2, 1e-3, 1e-4, 1e-5)
_FEWEST_EXPECTED = 10.0


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        name: which check.
        p: an upper bound on the probability of so large a discrepancy when nothing is wrong.
        alpha: the false-alarm rate: the verdict is false when `p < alpha`.
        discrepancy: what was measured, in the units of `detectable`.
        detectable: an error of this size is missed with a probability of at most `alpha`.
    """

    name: str
    p: float
    alpha: float
    discrepancy: float
    detectable: float

    def __bool__(self) -> bool:
        return self.p >= self.alpha

    def __str__(self) -> str:
        found = f"{self.name}: discrepancy {self.discrepancy:.3g} (catches {self.detectable:.3g})"
        return f"{found}, p = {self.p:.2g} {'≥' if self else '<'} {self.alpha:.2g}"


def detectable_mean(n: int, deviation: float, alpha: float = 1e-9) -> float:
    """The smallest error of a mean of `n` values that a two-sided z-test at `alpha` misses with probability `alpha` at most."""
    return (_z(alpha / 2) + _z(alpha)) * deviation / math.sqrt(n)


def mean_test(x: Tensor, expected: float, *, alpha: float = 1e-9, name: str = "mean") -> Verdict:
    """A z-test that the values `x` have the expectation `expected`; their second moment must be finite.

    Example:
        >>> import torch
        >>> x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
        >>> bool(mean_test(x, 0.0)), bool(mean_test(x, 0.5))
        (True, False)
    """
    x = x.detach().double().flatten()
    error = float(x.mean()) - expected
    deviation = float(x.std())
    z = (
        abs(error) * math.sqrt(x.numel()) / deviation
        if deviation > 0
        else (0.0 if abs(error) <= 1e-12 * abs(expected) else math.inf)
    )
    return Verdict(name, math.erfc(z / math.sqrt(2)), alpha, error, detectable_mean(x.numel(), deviation, alpha))


def _as_probabilities(u: Tensor) -> tuple[Tensor, bool]:
    """`u` as a float64 vector, and whether all values can be probabilities: NaN cannot."""
    u = u.detach().double().flatten()
    return u, bool(((u >= 0) & (u <= 1)).all())


def dkw_test(u: Tensor, *, alpha: float = 1e-9) -> Verdict:
    """The Kolmogorov distance of `u` from the uniform law, by the Dvoretzky-Kiefer-Wolfowitz-Massart inequality."""
    u, valid = _as_probabilities(u)
    u, n = u.sort().values, u.numel()
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    distance = float(torch.maximum(steps[1:] - u, u - steps[:-1]).max())
    return Verdict(
        "Kolmogorov distance",
        min(1.0, 2 * math.exp(-2 * n * distance**2)) if valid else 0.0,
        alpha,
        distance,
        2 * math.sqrt(math.log(2 / alpha) / (2 * n)),
    )


def chi2_test(u: Tensor, *, alpha: float = 1e-9, cells: int = 20) -> Verdict:
    """Pearson's test of `u` against the uniform law: equal cells, and cells of their own for both tails."""
    u, valid = _as_probabilities(u)
    n = u.numel()
    tails = [t for t in _TAIL_CELLS if t * n >= _FEWEST_EXPECTED and t < 1 / cells]
    edges = sorted({*(k / cells for k in range(1, cells)), *tails, *(1 - t for t in tails)})
    inner = torch.tensor(edges, dtype=torch.float64)
    counts = torch.bincount(torch.bucketize(u, inner), minlength=len(edges) + 1).double()
    expected = n * torch.diff(torch.tensor([0.0, *edges, 1.0], dtype=torch.float64))
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(edges)
    half = torch.tensor([freedom / 2, statistic / 2], dtype=torch.float64)
    p = float(torch.special.gammaincc(half[0], half[1])) if valid else 0.0
    # Both as Cohen's w: the root mean square of the relative errors of the cells, weighted by their probabilities.
    return Verdict("chi-squared", p, alpha, math.sqrt(statistic / n), math.sqrt(_detectable_noncentrality(freedom, alpha) / n))


def _detectable_noncentrality(freedom: int, alpha: float) -> float:
    """The shift of a chi-squared statistic that a test at `alpha` misses with probability `alpha`, by normal approximations."""
    z, ninth = _z(alpha), 2 / (9 * freedom)
    critical = freedom * (1 - ninth + z * math.sqrt(ninth)) ** 3  # Wilson and Hilferty (1931)
    shift = critical
    for _ in range(100):  # shift = critical - mean + z * deviation, a contraction
        shift = critical - freedom + z * math.sqrt(2 * (freedom + 2 * shift))
    return shift


def normal_score_tests(u: Tensor, *, alpha: float = 1e-9) -> list[Verdict]:
    """z-tests of the first four Hermite moments of `ndtri(u)`: shift, scale, skewness and tails; `alpha` is for all four."""
    u, valid = _as_probabilities(u)
    z = torch.special.ndtri(u.clamp(2.0**-60, 1 - 2.0**-53))
    hermite = {"shift": z, "scale": z**2 - 1, "skewness": z**3 - 3 * z, "tails": z**4 - 6 * z**2 + 3}
    verdicts = []
    for order, (name, moment) in enumerate(hermite.items(), start=1):
        deviation = math.sqrt(math.factorial(order))
        error = float(moment.mean())
        p = math.erfc(abs(error) * math.sqrt(z.numel()) / deviation / math.sqrt(2)) if valid else 0.0
        verdicts.append(Verdict(f"normal scores, {name}", p, alpha / 4, error, detectable_mean(z.numel(), deviation, alpha / 4)))
    return verdicts


def law_tests(u: Tensor, *, alpha: float = 1e-9) -> list[Verdict]:
    """Everything above against the uniform law, for `u = F(x)`; `alpha` is for all of them together.

    Example:
        >>> import torch
        >>> x = torch.randn(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> all(law_tests(torch.special.ndtr(x))), all(law_tests(torch.special.ndtr(1.03 * x)))
        (True, False)
    """
    share = alpha / 3
    return [dkw_test(u, alpha=share), chi2_test(u, alpha=share), *normal_score_tests(u, alpha=share)]


def _z(tail: float) -> float:
    """The normal quantile with probability `tail` above it."""
    return -float(torch.special.ndtri(torch.tensor(tail, dtype=torch.float64)))
