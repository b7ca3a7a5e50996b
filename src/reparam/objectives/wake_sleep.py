"""Reweighted wake-sleep: train the proposal towards the posterior, whose latents may be discrete."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators.estimator import sum_to_cost
from reparam.noise import Source
from reparam.objectives.weights import LogDensity, grouped, log_joint, log_mean, normalised, scored
from reparam.paths.parameters import check_distribution

__all__ = ["Wake", "sleep_phase", "wake_phase"]


class Wake(NamedTuple):
    """Two objectives to maximise, each of the batch: `model` trains the model, `proposal` the proposal."""

    model: Tensor
    proposal: Tensor


def wake_phase(
    log_density: LogDensity,
    q: Distribution,
    *,
    prior: Distribution | None = None,
    k: int,
    n: int = 1,
    source: Source | None = None,
) -> Wake:
    """The two wake phases of reweighted wake-sleep, from the same samples; both to be maximised, in nats.

    `model` is the bound log 1/k Σᵢ wᵢ with wᵢ = p(x, zᵢ) / q(zᵢ), whose gradient reaches the model only: Σᵢ w̃ᵢ ∇ log p(x, zᵢ).
    `proposal` is Σᵢ w̃ᵢ log q(zᵢ) with constant w̃ᵢ = wᵢ / Σⱼ wⱼ, an estimate of E log q(z) under the posterior, whose gradient
    reaches q only: it descends KL(posterior ‖ q), with a bias that falls as 1/k. Nothing is differentiated through the samples,
    which may be discrete. Maximise the sum, or one of them.

    Args:
        log_density: from samples `rows + batch + event`, n k rows, to `rows + a leading part of batch`: log p(x, z), or with a
            prior log p(x | z).
        q: the proposal, of any law whose support does not depend on its parameters.
        prior: of z.
        k: samples that are weighed against each other; with k = 1, `proposal` learns nothing.
        n: independent groups of them, averaged.
        source: of noise.

    Returns:
        Each for each element of the batch dimensions that `log_density` keeps.

    Raises:
        ValueError: when `log_density` returns another shape, k or n is below 1, or the shapes of q and the prior do not fit.

    Source: Bornschein and Bengio, arXiv:1406.2751.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Bernoulli
        >>> logits = torch.zeros(5, requires_grad=True)
        >>> p = Bernoulli(torch.full((5,), 0.5))
        >>> wake = rp.wake_phase(lambda z: -((z - 0.3) ** 2), Bernoulli(logits=logits), prior=p, k=8)
        >>> loss = -(wake.model + wake.proposal).mean()
        >>> loss.backward()
    """
    z, log_prob = scored(q, k, n, source, "wake_phase")
    log_p = log_joint(log_density, q, prior, z)
    log_q = sum_to_cost(log_prob, log_p)
    log_w = grouped(log_p - log_q.detach(), k)
    return Wake(log_mean(log_w).mean(0), (normalised(log_w) * grouped(log_q, k)).sum(1).mean(0))


def sleep_phase(q: Distribution, z: Tensor) -> Tensor:
    """The sleep phase: log q(z) of dreams z that the model drew itself, to be maximised, in nats.

    Draw z from the prior and x from the model given z, make q from that x, and ask it for z: its gradient descends
    E KL(posterior ‖ q) over the model's own data, without bias. It reaches q only.

    Args:
        q: the proposal given the dreamt x.
        z: the dreamt latents, of shape `batch + event`, or `rows + batch + event` where q was made from one x for several.

    Returns:
        One value for each, `batch` or `rows + batch`.

    Raises:
        ValueError: for latents of another shape.

    Source: Hinton et al. (1995), "The wake-sleep algorithm"; arXiv:1406.2751.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Bernoulli, Normal
        >>> z = Bernoulli(torch.full((5,), 0.5)).sample()
        >>> x = Normal(z, 1.0).sample()
        >>> scale = torch.ones((), requires_grad=True)
        >>> (-rp.sleep_phase(Bernoulli(logits=scale * x), z).mean()).backward()
    """
    check_distribution(q)
    wanted = q.batch_shape + q.event_shape
    if z.shape[z.dim() - len(wanted) :] != wanted:
        raise ValueError(
            f"sleep_phase: latents of shape {tuple(z.shape)} for a proposal of batch and event shape {tuple(wanted)}: give one for "
            "each element of its batch"
        )
    log_q: Tensor = q.log_prob(z.detach())
    return log_q
