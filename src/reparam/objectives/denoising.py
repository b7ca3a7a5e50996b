"""Learning to remove noise: denoising losses, and the variational bound that they weigh differently."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from reparam.estimators.estimator import check_rows
from reparam.noise import UNIFORM, Noise, Source
from reparam.paths.by_row import normal_by_row
from reparam.paths.path import HALF

if TYPE_CHECKING:  # siblings, of which only the shape is needed
    from reparam.nn.noising import Denoise, Schedule

__all__ = [
    "WEIGHTINGS",
    "Bound",
    "Weighting",
    "denoising",
    "diffusion_bound",
    "edm_weighting",
    "min_snr_weighting",
    "snr_weighting",
    "unit_weighting",
    "velocity_weighting",
]

# From log-SNRs to the weights of the squared error of x.
Weighting = Callable[[Tensor], Tensor]


def unit_weighting(log_snr: Tensor) -> Tensor:
    """1: the error of the datum itself."""
    return torch.ones_like(log_snr)


def snr_weighting(log_snr: Tensor) -> Tensor:
    """The SNR: the plain error of the noise, `|eps - eps'|^2 = SNR |x - x'|^2`. Source: Ho et al., arXiv:2006.11239."""
    return torch.exp(log_snr)


def velocity_weighting(log_snr: Tensor) -> Tensor:
    """SNR + 1: the plain error of the velocity. Source: Salimans and Ho, arXiv:2202.00512."""
    return torch.exp(log_snr) + 1


def min_snr_weighting(gamma: float = 5.0) -> Weighting:
    """The SNR, at most `gamma`. Source: Hang et al., arXiv:2303.09556."""
    if not gamma > 0:
        raise ValueError(f"min-SNR: gamma is {gamma}; it must be above zero")
    return lambda log_snr: torch.exp(log_snr.clamp(max=math.log(gamma)))


def edm_weighting(sigma_data: float = 1.0) -> Weighting:
    """SNR + 1 / sigma_data^2, which is `(s^2 + d^2) / (s d)^2` at noise s: the error of EDM's output is of unit weight.

    Source: Karras et al., arXiv:2206.00364, where the times are those of `EDM("lognormal")`.
    """
    if not sigma_data > 0:
        raise ValueError(f"EDM: sigma_data is {sigma_data}; it must be above zero")
    return lambda log_snr: torch.exp(log_snr) + sigma_data**-2


WEIGHTINGS: dict[str, Weighting] = {
    "x0": unit_weighting,
    "eps": snr_weighting,
    "v": velocity_weighting,
    "min_snr": min_snr_weighting(),
    "edm": edm_weighting(),
}


def denoising(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    *,
    weighting: Weighting = snr_weighting,
    times: Source | None = None,
    source: Source | None = None,
) -> Tensor:
    """The denoising loss of each datum, to be minimised, without units:

        weighting(log_snr(t)) |x - denoise(z, log_snr(t))|^2 / D,   z ~ N(alpha x, sigma^2),   t ~ uniform(0, 1),

    at one time and one noise for each datum of D elements. Its expectation is least at `denoise(z, log_snr) = E[x | z]`, for each
    weighting and each schedule.

    Args:
        denoise: the estimate of the data from `z`, N + event, and `log_snr`, (N,).
        x: data, N + event, of the order of one.
        schedule: of the log-SNR.
        weighting: from log-SNRs to weights. By default the SNR, which makes this the error of the noise.
        times: the source of the times; by default `source`. `rp.Sobol` spreads the times of a batch evenly.
        source: of the noise.

    Returns:
        The loss of each datum, (N,), in the dtype of x, float32 for half precision. Data in float32 lose the error of the noise
        to rounding above a log-SNR of about 25.

    Raises:
        ValueError: for a denoiser whose estimate has another shape than the data.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.nn.noising import VP
        >>> from reparam.objectives.denoising import denoising
        >>> standard_normal = lambda z, log_snr: log_snr.sigmoid().sqrt()[:, None] * z
        >>> denoising(standard_normal, torch.randn(64, 2), VP(), times=rp.Sobol(seed=0)).shape
        torch.Size([64])
    """
    log_snr = schedule.log_snr(_times(x, len(x), source if times is None else times))
    error = _squared_error(x, denoise(_state(x, log_snr, schedule, source), log_snr))
    return weighting(log_snr) * error / max(1, x[:1].numel())


class Bound(NamedTuple):
    """An upper bound on `-log p(x)` of each datum, in nats, and its terms; each of shape (N,).

    Attributes:
        total: the sum of the terms.
        prior: `KL(q(z_1 | x) || p(z_1))`, what the noisiest state still tells.
        reconstruction: `E[-log p(x | z_0)]`, what the cleanest leaves open.
        diffusion: what is lost in between.
    """

    total: Tensor
    prior: Tensor
    reconstruction: Tensor
    diffusion: Tensor


def diffusion_bound(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    *,
    lattice: Tensor | None = None,
    n: int = 1,
    times: Source | None = None,
    source: Source | None = None,
) -> Bound:
    """The variational bound in continuous time, `total >= -log p(x)` in expectation, to be minimised, in nats per datum.

        KL(q(z_1 | x) || N(0, alpha_1^2 + sigma_1^2)) + E[-log p(x | z_0)] - 1/2 E[log_snr'(t) SNR |x - denoise(z_t)|^2]

    Of real data, `p(x | z_0) = N(z_0 / alpha_0, s^2)`, with `s = sigma_0 / alpha_0`; the bound is on a density. Its expectation is
    `D/2 log(2 pi e s^2)`, which is taken in closed form. The bound is as tight as that law is right: where the density of the
    data bends little over a length s.

    The diffusion term of real data is the closed form for standard normal data plus the sampled difference to it, which has a
    smaller variance and the same expectation.

    Of data on a lattice, such as counts, `p(x | z_0)` of an element is `exp(-(z_0 / alpha_0 - v)^2 / 2 s^2)` normalised over the
    values v that it can have, so that the bound is on a probability, and divided by `D log 2` it is in bits per dimension.

    Args:
        denoise: the estimate of the data from `z`, N + event, and `log_snr`, (N,).
        x: data, N + event, of the order of one.
        schedule: of the log-SNR. The expectation depends only on its ends; the variance on all of it.
        lattice: the values that x can have, in the units of x: of shape (levels + 1,), or (levels + 1,) + one that broadcasts to
            an event, for elements that have their own. By default x is real.
        n: how many times and noises are drawn for each datum.
        times: the source of the times; by default `source`.
        source: of the noise.

    Returns:
        The bound and its terms, each of shape (N,). A bound on the density of data in other units, `y = shift + scale x`, is
        larger by `log scale` for each element.

    Raises:
        ValueError: for `n` below 1, a lattice that does not fit the event, an estimate of another shape than the data.
        RuntimeError: by torch, inside `torch.func` transforms: the log-SNR is differentiated by `torch.autograd`.

    Source: Kingma et al., arXiv:2107.00630.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.nn.noising import VP
        >>> from reparam.objectives.denoising import diffusion_bound
        >>> standard_normal = lambda z, log_snr: log_snr.sigmoid().sqrt()[:, None] * z
        >>> x = torch.randn(256, 1)
        >>> bound = diffusion_bound(standard_normal, x, VP("uniform"), n=64, times=rp.Sobol(seed=0))
        >>> nll = -torch.distributions.Normal(0.0, 1.0).log_prob(x).mean()
        >>> bool((bound.total.mean() - nll).abs() < 0.1)
        True
    """
    n = check_rows(n, "diffusion_bound: the number of times n")
    rows = x.repeat((n,) + (1,) * (x.dim() - 1))
    t = _times(x, len(rows), source if times is None else times)
    log_snr, slope = _with_slope(schedule, t)
    cleanest, noisiest = schedule.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64, device="cpu")).to(t).unbind()
    z = _state(rows, log_snr, schedule, source)
    loss = torch.exp(log_snr) * _squared_error(rows, denoise(z, log_snr))
    if lattice is None:
        loss = loss - _gaussian_loss(rows, z, log_snr, schedule)
    diffusion = (-0.5 * slope * loss).reshape(n, len(x)).mean(0)
    if lattice is None:
        diffusion = diffusion + _gaussian_diffusion(x.to(t.dtype), cleanest, noisiest)
    # With a^2 = sigmoid(log_snr) and b^2 = 1 - a^2, of an element: (a^2 x^2 + b^2 - 1 - log b^2) / 2.
    told = torch.sigmoid(noisiest) * (x.to(t.dtype) ** 2 - 1) + softplus(noisiest)
    prior = 0.5 * _summed(told)
    if lattice is None:
        each = 0.5 * (math.log(2 * math.pi) + 1 - cleanest)
        reconstruction = (each * x[:1].numel()).expand(len(x))
    else:
        reconstruction = _discretised(rows, cleanest, lattice, source).reshape(n, len(x)).mean(0)
    return Bound(prior + reconstruction + diffusion, prior, reconstruction, diffusion)


def _times(x: Tensor, rows: int, source: Source | None) -> Tensor:
    """A uniform time for each of so many rows; in single precision for half."""
    dtype = torch.float32 if x.dtype in HALF else x.dtype
    return Noise(UNIFORM, torch.Size(), dtype, x.device).draw(rows, source=source)


def _with_slope(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """The log-SNR at times t, and its derivative."""
    with torch.enable_grad():
        leaf = t.detach().requires_grad_()
        (slope,) = torch.autograd.grad(schedule.log_snr(leaf).sum(), leaf, create_graph=True)
    # Not of the leaf: the backward pass would go on from the states to the times.
    log_snr = schedule.log_snr(t)
    return log_snr, slope if log_snr.requires_grad else slope.detach()  # with a gradient where the schedule is learned


def _state(x: Tensor, log_snr: Tensor, schedule: Schedule, source: Source | None) -> Tensor:
    """A state of each row, `z ~ N(alpha x, sigma^2)`, in the dtype of x."""
    alpha, sigma = _scales(x, log_snr, schedule)
    return normal_by_row((alpha * x).to(x.dtype), sigma, source)


def _scales(x: Tensor, log_snr: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    each = (len(x),) + (1,) * (x.dim() - 1)
    return schedule.alpha(log_snr).reshape(each), schedule.sigma(log_snr).reshape(each)


def _squared_error(x: Tensor, estimate: Tensor) -> Tensor:
    """`|x - estimate|^2` of each row, at least in single precision."""
    if estimate.shape != x.shape:
        raise ValueError(
            f"the denoiser returned shape {tuple(estimate.shape)} for data of shape {tuple(x.shape)}: both must be the same"
        )
    wide = torch.float32 if x.dtype in HALF else x.dtype
    return _summed((x - estimate).to(wide).square())


def _summed(each: Tensor) -> Tensor:
    """The sum over the elements of each row; a row may be one number."""
    return each.unsqueeze(-1).flatten(1).sum(1)


def _gaussian_loss(x: Tensor, z: Tensor, log_snr: Tensor, schedule: Schedule) -> Tensor:
    """`SNR |x - x'|^2` of the best denoiser x' of standard normal data, which is `a^2 |b x - a eps|^2`: a control variate.

    Where data are real, each state's loss holds the square of its own noise, which at large SNR is most of its variance.
    """
    alpha, sigma = _scales(x, log_snr, schedule)
    eps = (z - alpha * x) / sigma
    a, b = torch.sigmoid(log_snr), torch.sigmoid(-log_snr)
    a, b = (part.reshape(alpha.shape) for part in (a, b))
    return _summed(a * (b.sqrt() * x - a.sqrt() * eps).square())


def _gaussian_diffusion(x: Tensor, cleanest: Tensor, noisiest: Tensor) -> Tensor:
    """The diffusion term of that denoiser, in closed form: the integral of `(a^2 b^2 |x|^2 + a^4 D) / 2` over the log-SNR."""
    first, last = torch.sigmoid(noisiest), torch.sigmoid(cleanest)
    noise = softplus(cleanest) - softplus(noisiest) - (last - first)
    return 0.5 * _summed((last - first) * x.square() + noise)


def _discretised(x: Tensor, log_snr: Tensor, lattice: Tensor, source: Source | None) -> Tensor:
    """`-log p(x | z)` of each row of data on a lattice, at one `z / alpha` of each."""
    event = lattice.shape[1:]
    padded = (1,) * (x.dim() - lattice.dim()) + event
    if (
        not lattice.dim()
        or len(padded) != x.dim() - 1
        or any(have not in (1, want) for have, want in zip(padded, x.shape[1:], strict=True))
    ):
        raise ValueError(
            f"the lattice has shape {tuple(lattice.shape)}: data of shape {tuple(x.shape[1:])} take the values of all elements, "
            f"(levels + 1,), or those of each, (levels + 1,) + {tuple(x.shape[1:])}"
        )
    values = lattice.to(dtype=log_snr.dtype, device=x.device).reshape((len(lattice), *padded))
    wide, s = x.to(log_snr.dtype), torch.exp(-0.5 * log_snr)
    seen = normal_by_row(wide, s, source)
    # Value by value: all at once would hold levels + 1 copies of the batch.
    total = torch.full_like(seen, -math.inf)
    for value in values.unbind():
        total = torch.logaddexp(total, -0.5 * ((seen - value) / s) ** 2)
    return _summed(total + 0.5 * ((seen - wide) / s) ** 2)
