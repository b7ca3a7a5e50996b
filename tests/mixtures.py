"""Gaussian mixtures of mean zero and unit variance in each element, whose densities, marginals and denoisers are known."""

import math
from functools import lru_cache

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import reparam as rp


@lru_cache
def mixture(dim, components=4, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    w = torch.rand(components, generator=g, dtype=torch.float64) + 0.5
    w = w / w.sum()
    loc = torch.randn(components, dim, generator=g, dtype=torch.float64)
    scale = 0.2 + 0.3 * torch.rand(components, dim, generator=g, dtype=torch.float64)
    mean = w @ loc
    std = (w @ (loc**2 + scale**2) - mean**2).sqrt()
    loc, scale = (loc - mean) / std, scale / std
    return MixtureSameFamily(Categorical(probs=w.to(dtype)), Independent(Normal(loc.to(dtype), scale.to(dtype)), 1))


def draw(law, n, seed=0):
    return rp.rsample(law, (n,), source=rp.noise.Fresh(torch.Generator().manual_seed(seed))).detach()


def project(law, x, direction):
    """The probability transform of `x @ direction`, whose law is a mixture of Normals as well."""
    w, base = law.mixture_distribution.probs, law.component_distribution.base_dist
    loc, scale = base.loc @ direction, (base.variance @ direction**2).sqrt()
    return (w * Normal(loc, scale).cdf((x @ direction).unsqueeze(-1))).sum(-1)


def posterior_variance(law, z, snr):
    """Var[x | z / alpha] of a law of one dimension, for z / alpha of shape (M,) at one SNR."""
    w, base = law.mixture_distribution.probs, law.component_distribution.base_dist
    loc, variance = base.loc[:, 0], base.variance[:, 0]
    total = variance + 1 / snr
    log_p = w.log() + Normal(loc, total.sqrt()).log_prob(z[:, None])
    share = log_p.softmax(1)
    mean = loc + variance / total * (z[:, None] - loc)
    within = variance / snr / total
    return (share * (mean**2 + within)).sum(1) - (share * mean).sum(1) ** 2, log_p.logsumexp(1).exp()


@lru_cache
def mmse_table(law):
    """The least mean squared error times the SNR at log-SNRs from -15 to 15, by the trapezoidal rule over z / alpha."""
    log_snr = torch.linspace(-15, 15, 201, dtype=torch.float64)
    found = []
    for snr in log_snr.exp().tolist():
        # The posterior variance bends on the scale of the components, with the noise, however little there is of it.
        z = torch.linspace(-1, 1, 1001, dtype=torch.float64) * (8 + 9 / math.sqrt(snr))
        variance, density = posterior_variance(law, z, snr)
        found.append(snr * torch.trapezoid(variance * density, z))
    return log_snr, torch.stack(found)


def mmse(law, log_snr):
    """The least mean squared error at log-SNRs between -15 and 15, of a law of one dimension."""
    at, scaled = mmse_table(law)
    where = (torch.bucketize(log_snr, at) - 1).clamp(0, len(at) - 2)
    share = (log_snr - at[where]) / (at[where + 1] - at[where])
    return torch.lerp(scaled[where], scaled[where + 1], share) * torch.exp(-log_snr)
