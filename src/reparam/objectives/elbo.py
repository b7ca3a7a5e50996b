"""The evidence lower bound."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from reparam.estimators import Estimator, expect
from reparam.estimators.estimator import sum_to_cost
from reparam.estimators.score import check_fixed_support
from reparam.noise import Source
from reparam.paths import detached

__all__ = ["analytic", "elbo", "sampled", "sticking"]

KL = Callable[[Distribution, Distribution | None, Tensor], Tensor]


def analytic(q: Distribution, prior: Distribution | None, z: Tensor) -> Tensor:
    """KL(q ‖ prior) in closed form; without a prior the negative entropy of q. Shape `batch`."""
    if prior is not None:
        return kl_divergence(q, prior)
    try:
        return -q.entropy()
    except NotImplementedError:
        raise NotImplementedError(f"torch knows no entropy of {type(q).__name__}: use kl=sampled or kl=sticking") from None


def sampled(q: Distribution, prior: Distribution | None, z: Tensor) -> Tensor:
    """The difference log q(z) − log prior(z) at the samples; without a prior log q(z). Shape `rows + batch`."""
    log_q = q.log_prob(z)
    return log_q if prior is None else log_q - prior.log_prob(z)


def sticking(q: Distribution, prior: Distribution | None, z: Tensor) -> Tensor:
    """`sampled` with the parameters of q cut in log q(z): the score term, whose mean is zero, is left out.

    The gradient is unbiased, and exactly zero at every sample where q is the posterior. The support of q must not depend on
    its parameters.

    Source: Roeder et al., "Sticking the landing", arXiv:1703.09194.
    """
    check_fixed_support(q)
    return sampled(detached(q), prior, z)


def closed_or_sampled(q: Distribution, prior: Distribution | None, z: Tensor) -> Tensor:
    """`analytic` where there is a prior and torch knows the pair, otherwise `sampled`."""
    if prior is None:
        return sampled(q, prior, z)
    try:
        return analytic(q, prior, z)
    except NotImplementedError:
        return sampled(q, prior, z)


def elbo(
    log_density: Callable[[Tensor], Tensor],
    q: Distribution,
    *,
    prior: Distribution | None = None,
    kl: KL = closed_or_sampled,
    estimator: Estimator | None = None,
    n: int = 1,
    source: Source | None = None,
) -> Tensor:
    """The evidence lower bound, E_q[log p(x, z) − log q(z)] ≤ log p(x), to be maximised, in nats.

    Without a prior, `log_density(z)` is log p(x, z). With one, it is log p(x | z), and the bound is
    E_q[log p(x | z)] − KL(q ‖ prior).

    Args:
        log_density: from samples `rows + batch + event` to `rows + a leading part of batch`.
        q: the approximate posterior.
        prior: of z; its event shape is that of q, its batch shape broadcasts to that of q.
        kl: `analytic`, `sampled` or `sticking` of `reparam.objectives`. By default closed form where there is a prior and torch
            knows the pair, otherwise sampled.
        estimator: of the expectation; by default what `rp.choose(q, n)` picks.
        n: the number of rows.
        source: of noise.

    Returns:
        The bound for each element of the batch dimensions that `log_density` keeps.

    Raises:
        NotImplementedError: when `kl=analytic` and there is no closed form.
        ValueError: when `log_density` returns another shape, or the shapes of q and the prior do not fit.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Normal
        >>> mu = torch.zeros(5, requires_grad=True)                  # a batch of five
        >>> log_joint = lambda z: Normal(0.0, 1.0).log_prob(z) + Normal(z, 1.0).log_prob(torch.ones(5))
        >>> loss = -rp.elbo(log_joint, Normal(mu, 1.0), n=8).mean()
        >>> loss.backward()
    """
    if not callable(kl):
        raise TypeError(f"kl is {kl!r}: give one of reparam.objectives.analytic, sampled and sticking")
    if prior is not None:
        _check_prior(q, prior)

    def integrand(z: Tensor) -> Tensor:
        log_p = log_density(z)
        divergence = kl(q, prior, z)
        if divergence.dim() == len(q.batch_shape):  # a closed form has no rows
            divergence = divergence.unsqueeze(0)
        return log_p - sum_to_cost(divergence, log_p)

    return expect(integrand, q, estimator=estimator, n=n, source=source)


def _check_prior(q: Distribution, prior: Distribution) -> None:
    """Refuse a prior that broadcasting would count more than once."""
    batch = q.batch_shape[len(q.batch_shape) - len(prior.batch_shape) :]
    fits = len(prior.batch_shape) <= len(q.batch_shape) and all(
        have in (1, want) for have, want in zip(prior.batch_shape, batch, strict=True)
    )
    if prior.event_shape != q.event_shape or not fits:
        raise ValueError(
            f"q has batch shape {tuple(q.batch_shape)} and event shape {tuple(q.event_shape)}, the prior "
            f"{tuple(prior.batch_shape)} and {tuple(prior.event_shape)}: event shapes must be equal "
            "(torch.distributions.Independent makes batch dimensions one event), and the prior's batch must broadcast to that of q"
        )
