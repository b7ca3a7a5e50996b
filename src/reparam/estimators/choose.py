"""The automatic choice of an estimator, in words."""

from __future__ import annotations

from dataclasses import dataclass

from torch.distributions import Bernoulli, Categorical, Distribution, Independent, OneHotCategorical

from reparam.estimators.coupled import DisARM
from reparam.estimators.estimator import Estimator
from reparam.estimators.exact import Enumerate
from reparam.estimators.integer import StochasticTriple
from reparam.estimators.pathwise import Pathwise
from reparam.estimators.replacement import WithoutReplacement
from reparam.estimators.score import LeaveOneOut, Score
from reparam.estimators.support import is_countable, law_name, support_size
from reparam.noise import Source
from reparam.paths import NoPathError, path
from reparam.paths.path import OwnSamplerError, is_discrete

__all__ = ["Choice", "choose"]

# A support of this size is enumerated even when fewer rows were asked for: exact for the price of some more rows.
SMALL_SUPPORT = 32
# Beyond these the weights of distinct rows, sums over 2^n subsets, or the list of all values cost more than rows do.
DISTINCT_ROWS, DISTINCT_VALUES = 8, 65536


@dataclass(frozen=True)
class Choice:
    """An estimator, and why."""

    law: str
    estimator: Estimator
    reason: str

    def __str__(self) -> str:
        return f"{self.law}: {type(self.estimator).__name__}, because {self.reason}"


def choose(q: Distribution, n: int = 1, source: Source | None = None) -> Choice:
    """The estimator that `expect` and `graph` use for `q` when none is named; print it to read why.

    Always an unbiased one. A finite support no larger than the rows asked for (or than 32 values) is enumerated; a
    distribution with a differentiable sampler takes the pathwise gradient. Of one large choice, 2 to 8 rows are drawn without
    replacement, which varies less than independent rows, the less the more probability is on few values. Two rows of coins are
    antithetic (DisARM), which varies by up to a third less than leave-one-out; that is better from four rows on. One count
    (Poisson, Binomial, Geometric, NegativeBinomial) takes differences of the costs at two counts (StochasticTriple, three rows a
    sample), which under most costs vary 2 to 200 times less than leave-one-out of as many rows, and up to twice as much under
    one that oscillates. Everything else takes the score function, leave-one-out where n ≥ 2 and the rows of the source are
    independent. DisARM and StochasticTriple have no second derivatives, and say so when asked.

    The choice does not see the cost: one that sums batch dimensions is for pathwise, score-function and antithetic estimators
    only, and one that has steps has no pathwise gradient. The others refuse such a cost, rather than be a great deal noisier for
    those that keep the batch; sum after the expectation, or name `rp.LeaveOneOut()`, which takes every cost.

    Example:
        >>> import torch, reparam as rp
        >>> print(rp.choose(torch.distributions.Bernoulli(0.3)))
        Bernoulli: Enumerate, because its 2 values can be summed exactly
        >>> print(rp.choose(torch.distributions.Categorical(torch.ones(100)), n=4))
        Categorical: WithoutReplacement, because it has 100 values, of which 4 distinct rows say more than 4 that may repeat
        >>> print(rp.choose(torch.distributions.Poisson(4.0), n=8))
        Poisson: StochasticTriple, because it counts, and the difference of the costs at two counts varies less than a score
    """
    estimator, reason = _choose(q, n, getattr(source, "independent", True))
    return Choice(law_name(q), estimator, reason)


def _choose(q: Distribution, n: int, independent: bool) -> tuple[Estimator, str]:
    if not is_discrete(q):
        if _has_path(q):
            return Pathwise(), "a sample of it is a differentiable function of noise"
        return _scored(n, independent, "it has no differentiable sampler")
    size = support_size(q)
    if size is not None and size <= max(n, SMALL_SUPPORT):
        return Enumerate(), f"its {size} values can be summed exactly"
    listed = size is not None and size <= DISTINCT_VALUES
    if isinstance(q, Categorical | OneHotCategorical) and listed and 2 <= n <= DISTINCT_ROWS:
        return WithoutReplacement(), f"it has {size} values, of which {n} distinct rows say more than {n} that may repeat"
    if isinstance(_inside(q), Bernoulli) and (n == 2 or (n % 2 == 0 and not independent)):
        return DisARM(), "it is made of coins, and rows in opposite pairs vary less than others"
    if is_countable(q) and not isinstance(q, Independent):
        return StochasticTriple(), "it counts, and the difference of the costs at two counts varies less than a score"
    return _scored(n, independent, "it is discrete, so that no sample is differentiable")


def _scored(n: int, independent: bool, why: str) -> tuple[Estimator, str]:
    if n < 2:
        return Score(), f"{why}; two or more rows would lower the variance"
    if not independent:
        return Score(), f"{why}, and rows that depend on each other are no baselines for each other"
    return LeaveOneOut(), f"{why}, and {n} rows are baselines for each other"


def _inside(q: Distribution) -> Distribution:
    while isinstance(q, Independent):
        q = q.base_dist
    return q


def _has_path(q: Distribution) -> bool:
    try:
        path(q)
    except OwnSamplerError:
        return True
    except NoPathError:
        return False
    return True
