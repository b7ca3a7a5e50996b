"""Samples of a proposal in groups of k, and their importance weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.errors import BadInputError
from reparam.estimators import Score
from reparam.estimators.estimator import check_cost, check_rows, sum_to_cost
from reparam.estimators.score import check_fixed_support
from reparam.noise import Source
from reparam.objectives.prior import check_prior
from reparam.paths import NoPathError, rsample
from reparam.paths.path import OwnSamplerError

__all__ = [
    "LogDensity",
    "check_independent",
    "check_support",
    "grouped",
    "log_joint",
    "log_mean",
    "normalised",
    "pathwise",
    "scored",
]

LogDensity = Callable[[Tensor], Tensor]


def pathwise(q: Distribution, k: int, n: int, source: Source | None, name: str) -> Tensor:
    """Samples, n k of them, that are differentiable in the parameters of q; `name` is the objective that asks."""
    try:
        return rsample(q, (_rows(k, n, name),), source=source)
    except OwnSamplerError:
        raise
    except NoPathError as error:
        raise NoPathError(
            f"{name} differentiates through the samples: use rp.vimco(log_density, q, k=...) with k=2 or more, or "
            f"rp.elbo(log_density, q, estimator=rp.LeaveOneOut(), n=...), which do without. {error}"
        ) from None


def scored(q: Distribution, k: int, n: int, source: Source | None, name: str) -> tuple[Tensor, Tensor]:
    """Samples, n k of them, without gradient, and their log-probabilities, which are differentiable in the parameters of q."""
    check_support(q, name)
    draw = Score().draw(q, _rows(k, n, name), source)
    return draw.value, cast(Tensor, draw.log_prob)


def check_support(q: Distribution, name: str) -> None:
    """Refuse a q whose support moves with a parameter that needs a gradient: the score of q does not have mean zero there."""
    try:
        check_fixed_support(q)
    except ValueError as error:
        raise ValueError(f"{name}: {error} with rp.elbo, or rp.iwae") from None


def _rows(k: int, n: int, name: str) -> int:
    return check_rows(k, f"{name}: the number of samples k") * check_rows(n, f"{name}: the number of bounds n")


def check_independent(source: Source | None, k: int, name: str) -> None:
    """Refuse rows that depend on each other where samples of one bound are compared."""
    if k > 1 and not getattr(source, "independent", True):
        raise BadInputError(f"{name}: the rows of {source!r} depend on each other, which would bias the gradient: use fresh noise")


def log_joint(log_density: LogDensity, q: Distribution, prior: Distribution | None, z: Tensor) -> Tensor:
    """The log-density log p(x, z) of each row, of shape `rows + a leading part of batch`."""
    if prior is not None:
        check_prior(q, prior)
    log_p = log_density(z)
    check_cost(log_p, z.shape[:1], q.batch_shape)
    return log_p if prior is None else log_p + sum_to_cost(prior.log_prob(z), log_p)


def grouped(per_row: Tensor, k: int) -> Tensor:
    """From `n k rows + batch` to `n + k + batch`."""
    return per_row.reshape((len(per_row) // k, k, *per_row.shape[1:]))


def log_mean(log_w: Tensor) -> Tensor:
    """The bound log 1/k Σᵢ wᵢ of each group: `n + batch`; minus infinity, without gradient, where all weights are zero."""
    none = (log_w == -math.inf).all(1, keepdim=True)
    bound: Tensor = torch.where(none, 0.0, log_w).logsumexp(1) - math.log(log_w.shape[1])
    return torch.where(none.squeeze(1), -math.inf, bound)


def normalised(log_w: Tensor) -> Tensor:
    """wᵢ / Σⱼ wⱼ in each group, without a gradient; zero where all weights are."""
    log_w = log_w.detach()
    total = log_w.logsumexp(1, keepdim=True)
    return torch.where(total == -math.inf, 0.0, (log_w - total).exp())
