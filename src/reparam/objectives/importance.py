"""Importance-weighted bounds: tighter than the evidence lower bound, for k times its cost."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.distributions import Distribution

from reparam.estimators.estimator import sum_to_cost
from reparam.estimators.surrogate import aligned, first_order, straight_through
from reparam.noise import Source
from reparam.objectives.weights import (
    LogDensity,
    check_independent,
    check_support,
    grouped,
    log_joint,
    log_mean,
    normalised,
    pathwise,
    scored,
)
from reparam.paths import detached

__all__ = ["dreg", "iwae", "stl", "vimco"]


def iwae(
    log_density: LogDensity,
    q: Distribution,
    *,
    prior: Distribution | None = None,
    k: int,
    n: int = 1,
    source: Source | None = None,
) -> Tensor:
    """The importance-weighted bound, E log 1/k Σᵢ wᵢ ≤ log p(x), wᵢ = p(x, zᵢ) / q(zᵢ), to be maximised, in nats.

    It grows with k from the evidence lower bound to log p(x). Its gradient is pathwise and unbiased, but what it tells the
    parameters of q drowns in noise as k grows: the signal-to-noise ratio falls as k^-1/2 (arXiv:1802.04537). Train q by `dreg`.

    Args:
        log_density: from samples `rows + batch + event`, n k rows, to `rows + a leading part of batch`: log p(x, z), or with a
            prior log p(x | z). Keep the batch: a batch that is summed away is weighed as one datum.
        q: the proposal; it needs a path.
        prior: of z; its event shape is that of q, its batch shape broadcasts to that of q.
        k: samples in each bound; 5 to 64 are usual.
        n: independent bounds, averaged.
        source: of noise.

    Returns:
        The bound for each element of the batch dimensions that `log_density` keeps.

    Raises:
        NoPathError: when q is discrete: use `vimco`.
        ValueError: when `log_density` returns another shape, k or n is below 1, or the shapes of q and the prior do not fit.

    Source: Burda et al., arXiv:1509.00519.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Normal
        >>> mu = torch.zeros(5, requires_grad=True)                  # a batch of five
        >>> bound = rp.iwae(lambda z: Normal(z, 1.0).log_prob(torch.ones(5)), Normal(mu, 1.0), prior=Normal(0.0, 1.0), k=16)
        >>> bound.shape
        torch.Size([5])
    """
    z = pathwise(q, k, n, source, "iwae")
    log_p = log_joint(log_density, q, prior, z)
    return log_mean(grouped(log_p - sum_to_cost(q.log_prob(z), log_p), k)).mean(0)


def stl(
    log_density: LogDensity,
    q: Distribution,
    *,
    prior: Distribution | None = None,
    k: int,
    n: int = 1,
    source: Source | None = None,
) -> Tensor:
    """`iwae` with the parameters of q cut in log q(z): the gradient in them is biased for k > 1, and exact for k = 1.

    Its noise falls with k, and is zero where q is the posterior, but what it leaves out has not mean zero for k > 1. `dreg` has
    the same rate without the bias. The gradient in the parameters of the model is that of `iwae`.

    Args, returns and raises as `iwae`; q must not have a support that depends on its parameters.

    Source: Roeder et al., "Sticking the landing", arXiv:1703.09194; its bias: arXiv:1810.04152.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Normal
        >>> mu = torch.tensor(0.0, requires_grad=True)
        >>> rp.stl(lambda z: Normal(0.0, 1.0).log_prob(z) + 3.0, Normal(mu, 1.0), k=4).backward()    # q is the posterior
        >>> mu.grad
        tensor(0.)
    """
    check_support(q, "stl")
    z = pathwise(q, k, n, source, "stl")
    log_p = log_joint(log_density, q, prior, z)
    return log_mean(grouped(log_p - sum_to_cost(detached(q).log_prob(z), log_p), k)).mean(0)


def dreg(
    log_density: LogDensity,
    q: Distribution,
    *,
    prior: Distribution | None = None,
    k: int,
    n: int = 1,
    source: Source | None = None,
) -> Tensor:
    """The value of `iwae` with the doubly reparameterised gradient in the parameters φ of q: unbiased, and better with larger k.

    The gradient is Σᵢ w̃ᵢ² ∂/∂zᵢ log(p(x, zᵢ) / q(zᵢ)) ∂zᵢ/∂φ with w̃ᵢ = wᵢ / Σⱼ wⱼ; its signal-to-noise ratio grows as k^1/2. The
    parameters of the model get the gradient of `iwae`, Σᵢ w̃ᵢ ∇ log p(x, zᵢ). First derivatives only, in reverse mode. It
    hangs a hook on the samples, which `torch.compile` takes with `fullgraph=False` only.

    Args, returns and raises as `iwae`; q must not have a support that depends on its parameters, and the rows of the source must
    be independent where k > 1.

    Source: Tucker et al., arXiv:1810.04152.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Normal
        >>> mu = torch.tensor(0.0, requires_grad=True)
        >>> rp.dreg(lambda z: Normal(0.0, 1.0).log_prob(z) + 3.0, Normal(mu, 1.0), k=4).backward()   # q is the posterior
        >>> mu.grad
        tensor(0.)
    """
    check_support(q, "dreg")
    z = pathwise(q, k, n, source, "dreg")
    check_independent(source, k, "dreg")
    if unpack_dual(z).tangent is not None:
        raise NotImplementedError("dreg weighs what comes back to its samples: use reverse mode, or rp.iwae in forward mode")
    weight: list[Tensor] = []
    seen = straight_through(z, z)
    if seen.requires_grad:
        seen.register_hook(lambda gradient: gradient * aligned(weight[0], gradient).to(gradient.dtype))
    log_p = log_joint(log_density, q, prior, seen)
    log_q = sum_to_cost(detached(q).log_prob(z), log_p)
    log_w = grouped(log_p - log_q.detach(), k)
    share = normalised(log_w)
    weight.append(share.flatten(0, 1))
    # Through the model every sample is weighed by the bound, and by the hook once more; log q, which has no other parameters to
    # serve, is weighed here. Its samples are not those that the hook saw: a transform that remembers them knows their inverse.
    log_q = grouped(log_q, k).movedim(1, -1)
    return first_order(log_mean(log_w), log_q, -(share**2).movedim(1, -1)).mean(0)


def vimco(
    log_density: LogDensity,
    q: Distribution,
    *,
    prior: Distribution | None = None,
    k: int,
    n: int = 1,
    source: Source | None = None,
) -> Tensor:
    """The value of `iwae` for any q, discrete ones too, with a score-function gradient whose samples are each other's baselines.

    The gradient is Σᵢ (L − L₋ᵢ) ∇ log q(zᵢ) + Σᵢ w̃ᵢ ∇ log wᵢ, unbiased, where L is the bound and L₋ᵢ is it with wᵢ replaced by the
    geometric mean of the other weights. First derivatives only.

    Args, returns and raises as `iwae`, but k ≥ 2; q needs no path, must not have a support that depends on its parameters, and
    the rows of the source must be independent.

    Source: Mnih and Rezende, arXiv:1602.06725.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Bernoulli
        >>> logits = torch.zeros(5, requires_grad=True)
        >>> bound = rp.vimco(lambda z: -((z - 0.3) ** 2), Bernoulli(logits=logits), prior=Bernoulli(torch.full((5,), 0.5)), k=8)
        >>> bound.sum().backward()
        >>> logits.grad.shape
        torch.Size([5])
    """
    if k is not True and k == 1:
        raise ValueError("vimco needs k=2 samples or more, which are baselines for each other: for one sample use rp.elbo")
    z, log_prob = scored(q, k, n, source, "vimco")
    check_independent(source, k, "vimco")
    log_p = log_joint(log_density, q, prior, z)
    log_q = sum_to_cost(log_prob, log_p)
    log_w = grouped(log_p - log_q.detach(), k)
    bound = log_mean(log_w)
    signal = bound.detach().unsqueeze(1) - _without_each(log_w.detach())
    signal = torch.where(bound.detach().unsqueeze(1) == -math.inf, 0.0, signal) - normalised(log_w)
    return first_order(bound, grouped(log_q, k).movedim(1, -1), signal.movedim(1, -1)).mean(0)


def _without_each(log_w: Tensor) -> Tensor:
    """The bound with each weight in turn replaced by the geometric mean of the others; zero where all the others are zero."""
    k = log_w.shape[1]
    # Sums over those before and those after: taking one weight out of the whole sum would cancel where it dominates.
    none = torch.full_like(log_w[:, :1], -math.inf)
    before = torch.cat([none, log_w[:, :-1].logcumsumexp(1)], 1)
    after = torch.cat([log_w[:, 1:].flip(1).logcumsumexp(1).flip(1), none], 1)
    others = torch.logaddexp(before, after)
    zero = log_w == -math.inf
    finite = torch.where(zero, 0.0, log_w)
    geometric = (finite.sum(1, keepdim=True) - finite) / (k - 1)
    geometric = torch.where(zero.sum(1, keepdim=True) - zero.int() > 0, -math.inf, geometric)
    baseline = torch.logaddexp(others, geometric) - math.log(k)
    return torch.where(baseline == -math.inf, 0.0, baseline)
