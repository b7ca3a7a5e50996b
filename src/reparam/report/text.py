"""Texts on a page: reconstructions, samples, the way from one text to another, and the latents that carry them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from reparam.noise import Fresh
from reparam.report import charts
from reparam.report.chart import quoted
from reparam.report.pieces import Figure, Subject

__all__ = ["pairs", "sampled_texts", "units", "walks"]

_PAIRS, _SAMPLES, _WALKS, _STEPS, _ROWS = 10, 10, 3, 7, 500


def _texts(subject: Subject, x: torch.Tensor) -> list[str]:
    codec = subject.splits.train.codec
    return [] if codec is None else codec.decode(x.round().long())


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], kind: str = "texts") -> str:
    """Texts as they are, their spaces too, with a mark where there is none."""
    cells = ["".join(f'<th scope="col">{quoted(name)}</th>' for name in head)]
    cells += ["".join(f"<td>{quoted(text) if text.strip() else '<i>empty</i>'}</td>" for text in row) for row in rows]
    return f'<table class="{kind}">' + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def pairs(subject: Subject) -> Figure:
    """Test texts beside what comes back of them."""
    x = subject.splits.test.x[:_PAIRS]
    rows = list(zip(_texts(subject, x), _texts(subject, subject.model.reconstruct(x)), strict=True))
    same = f"Of {len(rows)}, {sum(a == b for a, b in rows)} come back letter by letter." if rows else ""
    caption = f"The mean of the latents of each text, decoded by the most probable token at each step. {same}"
    return Figure(caption, [_table(("test data", "reconstructions"), rows)], wide=True)


def sampled_texts(subject: Subject) -> list[Figure]:
    """New texts, and from the same latents the most probable ones."""
    model, n = subject.model, _SAMPLES
    drawn, likely = (
        _texts(subject, model.sample(n, Fresh(torch.Generator().manual_seed(0)), **subject.options(noisy=noisy)))
        for noisy in (True, False)
    )
    head = ("drawn", "most probable, of the same latents")
    caption = (
        "Each row has its own latents. What differs between the columns is left to the decoder; what they share is in the latents."
    )
    return [Figure(caption, [_table(head, list(zip(drawn, likely, strict=True)))], wide=True)]


def walks(subject: Subject) -> Figure:
    """From the latents of one test text to those of another, in even steps."""
    x = subject.splits.test.x
    n = min(_WALKS, len(x) // 2)
    if not n:
        return Figure("Two test data are needed for a way from one to the other.", [])
    steps = subject.model.interpolate(x[:n], x[n : 2 * n], _STEPS).transpose(0, 1)
    tables = []
    for a, b, way in zip(_texts(subject, x[:n]), _texts(subject, x[n : 2 * n]), steps, strict=True):
        shares = np.linspace(0, 1, _STEPS)
        rows = [("from", a), *((f"{share:.0%}", text) for share, text in zip(shares, _texts(subject, way), strict=True)), ("to", b)]
        tables.append(_table(("way", "text"), rows, "texts way"))
    return Figure("Straight from the latents of one test text to those of another, decoded on the way.", tables, wide=True)


def units(subject: Subject) -> Figure:
    """The divergence of each latent from the prior: how much it tells of a text."""
    x = subject.splits.test.x[:_ROWS]
    with torch.no_grad():
        told = subject.model.describe(x)
        active = int(subject.model.active_units(x).sum()) if len(x) > 1 else None
    mean, scale = told["mean"].double(), told["scale"].double()
    each = (mean.square() + scale.square() - 1).sum(0) / (2 * len(x)) - scale.log().mean(0)
    order = each.sort(descending=True).values.clamp(min=0).tolist()
    chart = charts.columns("units", "KL by latent, in nats per text", order)
    use = "" if active is None else f" {active} of {len(order)} are active: their mean moves with the text."
    return Figure(f"How much each latent tells of a text, the most telling first; together {sum(order):.2f} nats.{use}", [chart])
