"""Pictures of discrete latents: codes as images, and what each latent does."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from reparam.report.images import grid
from reparam.report.pieces import ACROSS, Figure, Subject

__all__ = ["codes", "flips"]

# Coins that are flipped, choices that are changed, and categories that are shown of each.
_COINS, _CHOICES, _CATEGORIES = 11, 6, 16


def codes(subject: Subject) -> Figure:
    """Test data beside the probabilities of their latents."""
    x = subject.splits.test.x[: 2 * ACROSS]
    with torch.no_grad():
        p = subject.model.encode(x).mean
    if p.dim() == 2:
        side = math.ceil(math.sqrt(p.shape[1]))
        p = torch.nn.functional.pad(p, (0, side * -(-p.shape[1] // side) - p.shape[1])).unflatten(1, (-1, side))
        caption = "Below each datum its latents, by rows: the brighter, the more probably one."
    else:
        caption = "Below each datum its latents, a row each: the brighter a category, the more probable."
    pairs = zip(x.split(ACROSS), p[:, None].split(ACROSS), strict=True)
    blocks = []
    for data, shades in pairs:
        blocks += [
            grid(subject.pictures(data), len(data), "Test data"),
            grid(shades.numpy(), len(data), "The probabilities of their latents"),
        ]
    return Figure(caption, blocks)


def flips(subject: Subject) -> Figure:
    """One code decoded, with one latent at a time set to its other values."""
    model, x = subject.model, subject.splits.test.x
    spread = model.encode(x).mean.detach().var(0, correction=0)
    code = model.code(x[:4])
    if code.dim() == 2:
        most = spread.topk(min(_COINS, len(spread))).indices
        rows = torch.cat([torch.cat([z[None], _flipped(z, most)]) for z in code])
        caption = "First in each row the code of a test datum, decoded; then with one latent flipped, those that vary most first."
        return Figure(caption, [grid(_decoded(subject, rows), 1 + len(most), "Codes with one latent flipped")])
    most = spread.sum(-1).topk(min(_CHOICES, len(spread))).indices
    shown = min(_CATEGORIES, code.shape[-1])
    rows = code[0].repeat(len(most), shown, 1, 1)
    for row, latent in enumerate(most.tolist()):
        rows[row, :, latent] = torch.eye(code.shape[-1], dtype=code.dtype)[:shown]
    caption = "The code of a test datum, decoded with one latent, a row each, set to every category; those that vary most first."
    return Figure(caption, [grid(_decoded(subject, rows.flatten(0, 1)), shown, "A code with one latent set to each category")])


def _flipped(z: Tensor, latents: Tensor) -> Tensor:
    rows = z.repeat(len(latents), 1)
    places = torch.arange(len(latents))
    rows[places, latents] = 1 - rows[places, latents]
    return rows


def _decoded(subject: Subject, z: Tensor) -> np.ndarray:
    return subject.pictures(subject.model.show(z))
