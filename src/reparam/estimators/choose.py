"""The automatic choice of an estimator, in words."""

from __future__ import annotations

from dataclasses import dataclass

from torch.distributions import Distribution

from reparam.estimators.estimator import Estimator
from reparam.estimators.exact import Enumerate
from reparam.estimators.pathwise import Pathwise
from reparam.estimators.score import LeaveOneOut, Score
from reparam.estimators.support import support_size
from reparam.noise import Source
from reparam.paths import NoPathError, path
from reparam.paths.path import OwnSamplerError, is_discrete

__all__ = ["Choice", "choose"]

# A support of this size is enumerated even when fewer rows were asked for: exact for the price of some more rows.
SMALL_SUPPORT = 32


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

    A finite support no larger than the rows asked for (or than 32 values) is enumerated; a distribution with a differentiable
    sampler takes the pathwise gradient; everything else the score function, leave-one-out where n ≥ 2 and the rows of the
    source are independent. The choice does not see the cost: a cost that sums batch dimensions cannot be enumerated, and one
    that has steps has no pathwise gradient; name an estimator then.

    Example:
        >>> import torch, reparam as rp
        >>> print(rp.choose(torch.distributions.Bernoulli(0.3)))
        Bernoulli: Enumerate, because its 2 values can be summed exactly
        >>> print(rp.choose(torch.distributions.Poisson(4.0), n=8))
        Poisson: LeaveOneOut, because it is discrete, so that no sample is differentiable, and 8 rows are baselines for each other
    """
    law = type(q).__name__
    if is_discrete(q):
        size = support_size(q)
        if size is not None and size <= max(n, SMALL_SUPPORT):
            return Choice(law, Enumerate(), f"its {size} values can be summed exactly")
        why = "it is discrete, so that no sample is differentiable"
    else:
        if _has_path(q):
            return Choice(law, Pathwise(), "a sample of it is a differentiable function of noise")
        why = "it has no differentiable sampler"
    if n >= 2 and not getattr(source, "independent", True):
        return Choice(law, Score(), f"{why}, and rows that depend on each other are no baselines for each other")
    if n >= 2:
        return Choice(law, LeaveOneOut(), f"{why}, and {n} rows are baselines for each other")
    return Choice(law, Score(), f"{why}; two or more rows would lower the variance")


def _has_path(q: Distribution) -> bool:
    try:
        path(q)
    except OwnSamplerError:
        return True
    except NoPathError:
        return False
    return True
