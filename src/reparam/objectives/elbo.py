"""The evidence lower bound."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical, kl_divergence

from reparam.estimators import Estimator, expect
from reparam.estimators.estimator import check_cost, sum_to_cost
from reparam.estimators.score import check_fixed_support
from reparam.noise import Source, readable
from reparam.objectives.prior import check_prior
from reparam.paths import detached
from reparam.paths.path import support_of

__all__ = ["analytic", "elbo", "sampled", "sticking"]

KL = Callable[[Distribution, Distribution | None, Tensor], Tensor]


def analytic(q: Distribution, prior: Distribution | None, z: Tensor) -> Tensor:
    """KL(q ‖ prior) in closed form; without a prior the negative entropy of q. Shape `batch`."""
    if prior is not None:
        # Torch has pairs, such as two Bernoulli laws, that do not broadcast.
        return kl_divergence(q, prior if prior.batch_shape == q.batch_shape else prior.expand(q.batch_shape))
    try:
        return -q.entropy()
    except NotImplementedError:
        raise NotImplementedError(f"torch knows no entropy of {type(q).__name__}: use kl=sampled or kl=sticking") from None


def sampled(q: Distribution, prior: Distribution | None, z: Tensor) -> Tensor:
    """The difference log q(z) − log prior(z) at the samples; without a prior log q(z). Shape `rows + batch`."""
    _check_values(q, z)
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
    num_data: float | None = None,
    estimator: Estimator | None = None,
    n: int = 1,
    source: Source | None = None,
) -> Tensor:
    """The evidence lower bound, E_q[log p(x, z) − log q(z)] ≤ log p(x), to be maximised, in nats.

    Without a prior, `log_density(z)` is log p(x, z). With one, it is log p(x | z), and the bound is
    E_q[log p(x | z)] − KL(q ‖ prior).

    A latent that all data share, such as the weights of a Bayesian network, has one divergence for the whole set. With
    `num_data=N` the bound is still per datum: E_q[mean of log p(xᵢ | z) over a minibatch] − KL(q ‖ prior) / N. So `log_density`
    is then the mean over the minibatch, never the sum, and N counts the training set, not the minibatch. The bound on the
    evidence of the whole set is N times that, whatever the size of the minibatch.

    Args:
        log_density: from samples `rows + batch + event` to `rows + a leading part of batch`.
        q: the approximate posterior.
        prior: of z; its event shape is that of q, its batch shape broadcasts to that of q.
        kl: `analytic`, `sampled` or `sticking` of `reparam.objectives`. By default closed form where there is a prior and torch
            knows the pair, otherwise sampled.
        num_data: the size of the data set that one z is shared by; needs a prior. By default every datum has its own z.
        estimator: of the expectation; by default what `rp.choose(q, n)` picks.
        n: the number of rows.
        source: of noise.

    Returns:
        The bound for each element of the batch dimensions that `log_density` keeps.

    Raises:
        NotImplementedError: when `kl=analytic` and there is no closed form.
        TypeError: when `kl` is no function, or `log_density` returns no floating-point tensor.
        ValueError: when `log_density` returns another shape, or the shapes of q and the prior do not fit; when q reaches beyond
            the support of the prior, where the bound is minus infinity; for `num_data` without a prior, or below 1; where
            log q(z) of a discrete q would be sampled at relaxed rows.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Normal
        >>> mu = torch.zeros(5, requires_grad=True)                  # a batch of five
        >>> log_joint = lambda z: Normal(0.0, 1.0).log_prob(z) + Normal(z, 1.0).log_prob(torch.ones(5))
        >>> loss = -rp.elbo(log_joint, Normal(mu, 1.0), n=8).mean()
        >>> loss.backward()

        Weights that a thousand data share, seen ten at a time:

        >>> x, y = torch.randn(10), torch.randn(10)
        >>> log_density = lambda w: Normal(w.unsqueeze(-1) * x, 1.0).log_prob(y).mean(-1)
        >>> rp.elbo(log_density, Normal(mu[0], 1.0), prior=Normal(0.0, 1.0), num_data=1000).shape
        torch.Size([])
    """
    if not callable(kl):
        raise TypeError(f"kl is {kl!r}: give one of reparam.objectives.analytic, sampled and sticking")
    if prior is not None:
        check_prior(q, prior)
    share = 1.0 if num_data is None else 1.0 / _check_num_data(num_data, prior)

    def integrand(z: Tensor) -> Tensor:
        log_p = log_density(z)
        check_cost(log_p, z.shape[:1], q.batch_shape)  # before the divergence could broadcast it
        divergence = kl(q, prior, z)
        if divergence.dim() == len(q.batch_shape):  # a closed form has no rows
            divergence = divergence.unsqueeze(0)
        return log_p - share * sum_to_cost(divergence, log_p)

    return expect(integrand, q, estimator=estimator, n=n, source=source)


def _check_values(q: Distribution, z: Tensor) -> None:
    """Refuse rows of a discrete q at which its log-probability means nothing, or has no slope where one is asked for."""
    support = support_of(q)
    if support is None or not support.is_discrete:
        return
    use = (
        "use kl=analytic of reparam.objectives, or an estimator whose rows are values without a slope, such as rp.LeaveOneOut() "
        "with n=2 or more"
    )
    if readable(z) and z.numel() and not support.check(z).all():
        raise ValueError(f"log q(z) is sampled at rows that are no values of the discrete q, as those of a relaxation are: {use}")
    base = q
    while isinstance(base, Independent):
        base = base.base_dist
    if z.requires_grad and isinstance(base, OneHotCategorical):
        raise ValueError(f"torch's log_prob of {type(base).__name__} has no slope in z, which this estimator passes to q: {use}")


def _check_num_data(num_data: float, prior: Distribution | None) -> float:
    if prior is None:
        raise ValueError(
            "num_data needs the prior: log_density is then log p(x | z), the mean over a minibatch, and the divergence apart"
        )
    if isinstance(num_data, Tensor) or not num_data >= 1:
        raise ValueError(f"num_data is the number of data that share z, a number of at least 1; got {num_data!r}")
    return num_data
