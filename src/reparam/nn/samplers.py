"""Noise removal as a chain of reparameterised samples.

Each random step is a Normal sample `mean + scale * eps` with `eps` from the noise source, so that the whole chain is one
deterministic function of noise, differentiable in the denoiser's parameters, in the start and in the noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from reparam.nn.noising import Denoise, Schedule, estimate, spread
from reparam.noise import NORMAL, Noise, Source
from reparam.paths.by_row import normal_by_row
from reparam.paths.path import HALF

__all__ = ["DDIM", "DDPM", "METHODS", "Heun", "Method", "State", "chain", "sample", "start"]

# The most noise that a step may add, as a share of what is there: the bound of Karras et al.
_MOST_CHURN = math.sqrt(2) - 1


class State(NamedTuple):
    """A chain at one noise: `z` of shape N + event, the denoiser's estimate `x` of the data there, the log-SNR (one number)."""

    z: Tensor
    x: Tensor
    log_snr: Tensor


class Method(Protocol):
    """One step from a log-SNR to a higher one."""

    def step(
        self, denoise: Denoise, z: Tensor, log_snr: Tensor, to: Tensor, schedule: Schedule, source: Source | None
    ) -> tuple[State, Tensor]:
        """The state at which the denoiser was asked, and the next `z`, at the log-SNR `to`."""
        ...


@dataclass(frozen=True)
class DDIM:
    """Denoising diffusion implicit models, with a share `eta` of the noise of DDPM.

    The posterior of the next state `z_s` given the datum has standard deviation `d = sigma_s sqrt(1 - exp(l_t - l_s))`, with the
    log-SNRs `l`. With the estimate x of the datum and the noise `e = (z_t - alpha_t x) / sigma_t` that it implies,

        z_s = alpha_s x + sqrt(sigma_s^2 - eta^2 d^2) e + eta d eps.

    Args:
        eta: 0 for a deterministic chain, 1 for DDPM.

    Raises:
        ValueError: unless `0 <= eta <= 1`.

    Source: Song et al., arXiv:2010.02502.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDIM: eta is {self.eta}; it must lie between 0 and 1")

    def step(
        self, denoise: Denoise, z: Tensor, log_snr: Tensor, to: Tensor, schedule: Schedule, source: Source | None
    ) -> tuple[State, Tensor]:
        x = estimate(denoise, z, log_snr)
        # The formula above with e eliminated, so that nothing cancels: kept = log of what stays of z_t, at unit alpha.
        gap = torch.expm1(log_snr - to)
        kept = 0.5 * (log_snr - to + torch.log1p(self.eta**2 * gap))
        alpha = schedule.alpha(to)
        mean = (alpha / schedule.alpha(log_snr) * kept.exp()) * z - (alpha * torch.expm1(kept)) * x
        state = State(z, x, log_snr)
        return state, mean if self.eta == 0 else normal_by_row(mean, self.eta * schedule.sigma(to) * torch.sqrt(-gap), source)


# Ancestral sampling, z_s ~ q(z_s | z_t, x) at the estimate x of the datum: Ho et al., arXiv:2006.11239.
DDPM = DDIM(eta=1.0)


@dataclass(frozen=True)
class Heun:
    """Heun's second-order steps of the probability-flow ODE, with noise added and removed on the way by `churn`.

    With `y = z / alpha` and `s = sigma / alpha`, `dy / ds = (y - denoise(z)) / s`. Before a step from s, noise of variance
    `s'^2 - s^2` is added, with `s' = (1 + churn) s`, and the step starts at s'.

    Args:
        churn: a share of the noise: the `S_churn / N` of Karras et al., at most sqrt(2) - 1; 0 for a deterministic chain.
        low, high: the `s` between which noise is added.
        inflate: factor of the noise that is added, `S_noise`.

    Raises:
        ValueError: for a `churn` out of range.

    Source: Karras et al., arXiv:2206.00364, algorithm 2.
    """

    churn: float = 0.0
    low: float = 0.0
    high: float = math.inf
    inflate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.churn <= _MOST_CHURN:
            raise ValueError(f"Heun: churn is {self.churn}; it must lie between 0 and sqrt(2) - 1 = {_MOST_CHURN:.4f}")

    def step(
        self, denoise: Denoise, z: Tensor, log_snr: Tensor, to: Tensor, schedule: Schedule, source: Source | None
    ) -> tuple[State, Tensor]:
        y, s, after = z / schedule.alpha(log_snr), torch.exp(-0.5 * log_snr), torch.exp(-0.5 * to)
        if self.churn:
            within = (self.low <= s) & (s <= self.high)
            raised = torch.where(within, (1 + self.churn) * s, s)
            y = normal_by_row(y, self.inflate * torch.sqrt(raised**2 - s**2), source)
            s, log_snr = raised, -2 * torch.log(raised)
            z = schedule.alpha(log_snr) * y
        x = estimate(denoise, z, log_snr)
        slope = (y - x) / s
        ahead = y + (after - s) * slope
        alpha = schedule.alpha(to)
        there = (ahead - estimate(denoise, alpha * ahead, to)) / after
        return State(z, x, log_snr), alpha * (y + (after - s) * 0.5 * (slope + there))


METHODS: dict[str, Method] = {"ddpm": DDPM, "ddim": DDIM(), "heun": Heun()}


def start(
    shape: tuple[int, ...],
    schedule: Schedule,
    *,
    source: Source | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """The noise that a chain starts at, of a shape N + event: `z ~ N(0, alpha^2 + sigma^2)` at t = 1, a row of noise a datum."""
    if not shape:
        raise ValueError("the shape of the samples is (): give the number of data first, then the shape of one")
    kind = torch.get_default_dtype() if dtype is None else dtype
    place = torch.device("cpu" if device is None else device)
    eps = Noise(NORMAL, torch.Size(shape[1:]), kind, place).draw(shape[0], source=source)
    last = schedule.log_snr(torch.ones((), dtype=torch.float64, device="cpu"))
    return spread(schedule, last).to(eps) * eps


def chain(
    denoise: Denoise,
    z: Tensor,
    schedule: Schedule,
    *,
    method: Method | None = None,
    steps: int = 50,
    source: Source | None = None,
) -> Iterator[State]:
    """The states of a chain from `z` at t = 1 to t = 0, one by one; the estimate `x` of the last one is the sample.

    The denoiser is asked at `steps` times, evenly from 1 to 0; a Heun step asks twice but for the last.

    Args:
        denoise: the estimate of the data from `z` and `log_snr`.
        z: the start, of shape N + event; `start(shape, schedule)` draws one.
        schedule: that of the denoiser.
        method: `DDIM()` by default.
        steps: how many states there are, at least 1.
        source: of the noise of random steps.

    Raises:
        ValueError: for `steps` below 1; for a denoiser whose estimate has another shape than the state.

    Example:
        >>> import torch
        >>> from reparam.nn.noising import VP
        >>> from reparam.nn.samplers import chain, start
        >>> denoise = lambda z, log_snr: log_snr.sigmoid().sqrt()[:, None] * z         # of standard normal data
        >>> states = list(chain(denoise, start((8, 2), VP()), VP(), steps=4))
        >>> len(states), states[-1].x.shape
        (4, torch.Size([8, 2]))
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps is {steps!r}: a chain has at least one, give a whole number from 1")
    method = DDIM() if method is None else method
    # Small differences of log-SNRs count: the grid is made in double, and half precision is left to the states.
    grid = schedule.log_snr(torch.linspace(1, 0, steps, dtype=torch.float64, device="cpu"))
    grid = grid.to(device=z.device, dtype=torch.float32 if z.dtype in HALF else z.dtype)
    for log_snr, to in pairwise(grid):
        state, z = method.step(denoise, z, log_snr, to, schedule, source)
        yield state
    yield State(z, estimate(denoise, z, grid[-1]), grid[-1])


def sample(
    denoise: Denoise,
    shape: tuple[int, ...],
    schedule: Schedule,
    *,
    method: Method | None = None,
    steps: int = 50,
    source: Source | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Data from noise: the last estimate of a [`chain`][reparam.nn.samplers.chain] from a fresh start.

    The sample is differentiable in the parameters of the denoiser.

    Args:
        denoise: the estimate of the data from `z` and `log_snr`.
        shape: N + event.
        schedule: that of the denoiser.
        method: `DDIM()` by default.
        steps: how many times there are.
        source: of the noise, that of the start too.
        dtype: of the samples; torch's default.
        device: of the samples; the CPU.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.nn.noising import EDM
        >>> from reparam.nn.samplers import Heun, sample
        >>> denoise = lambda z, log_snr: z / (1 + torch.exp(-log_snr))[:, None]        # of standard normal data
        >>> x = sample(denoise, (1024, 2), EDM(), method=Heun(), steps=32, source=rp.Sobol(seed=0))
        >>> bool((x.std(0) - 1).abs().max() < 0.02)
        True
    """
    *_, last = chain(
        denoise,
        start(shape, schedule, source=source, dtype=dtype, device=device),
        schedule,
        method=method,
        steps=steps,
        source=source,
    )
    return last.x
