"""Tables of texts and of counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reparam.report.chart import quoted

__all__ = ["crossed", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; the first of each row names it."""
    cells = ["".join(f"<th>{quoted(name)}</th>" for name in head)]
    for first, *others in rows:
        cells.append(f'<th scope="row">{quoted(first)}</th>' + "".join(f"<td>{quoted(text)}</td>" for text in others))
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def crossed(rows: Tensor, found: Tensor, kinds: tuple[str, ...], names: tuple[str, ...], what: str, other: str) -> str:
    """Counts as a table whose cells are the darker the more of their row they hold."""
    counts = torch.zeros(len(kinds), len(names), dtype=torch.int64)
    counts.index_put_((rows, found), torch.ones_like(rows), accumulate=True)
    head = f"<tr><th>{quoted(what)}</th>" + "".join(f'<th scope="col">{quoted(kind)}</th>' for kind in names) + "</tr>"
    lines = []
    for kind, line in zip(kinds, counts, strict=True):
        shares = (line / line.sum().clamp(min=1)).tolist()
        cells = [f'<td style="--share: {share:.0%}">{int(n)}</td>' for share, n in zip(shares, line, strict=True)]
        lines.append(f'<tr><th scope="row">{quoted(kind)}</th>{"".join(cells)}</tr>')
    top = f'<tr><th></th><th colspan="{len(names)}">{quoted(other)}</th></tr>'
    return f'<div class="sliding"><table class="crossed">{top}{head}{"".join(lines)}</table></div>'
