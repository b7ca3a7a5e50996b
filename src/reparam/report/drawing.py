"""The parts of a drawing of an idea: boxes, noise, arrows, and the way of the gradient back."""

from __future__ import annotations

from reparam.report.chart import quoted

__all__ = ["arrow", "back", "box", "circle", "picture", "small", "words"]

_HEADS = (
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0 8 4 0 8z" fill="var(--ink)"/></marker>'
    '<marker id="back-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 8 4 0 8z" fill="var(--series-3)"/></marker>'
)


def picture(parts: list[str], description: str) -> str:
    """The parts together, with what a person hears who does not see them."""
    label = f'role="img" aria-label="{quoted(description)}"'
    return f'<svg class="idea" viewBox="0 0 472 176" {label}><defs>{_HEADS}</defs>{"".join(parts)}</svg>'


def words(x: int, y: int, text: str) -> str:
    """A text around a place."""
    return f'<text x="{x}" y="{y}" text-anchor="middle">{quoted(text)}</text>'


def small(x: int, y: int, text: str) -> str:
    """The same in small letters."""
    return f'<text class="small" x="{x}" y="{y}" text-anchor="middle">{quoted(text)}</text>'


def box(x: int, y: int, width: int, height: int, text: str, note: str | None) -> str:
    """A box with a text, and a small one below it."""
    middle, centre = x + width // 2, y + height // 2
    texts = words(middle, centre + 5, text) if note is None else words(middle, centre - 3, text) + small(middle, centre + 15, note)
    return f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="10"/>{texts}'


def circle(x: int, y: int, note: str = "noise") -> str:
    """The noise, as a circle."""
    beside = f'<text class="small" x="{x + 31}" y="{y + 18}">{note}</text>' if note else ""
    return f'<circle class="noise" cx="{x}" cy="{y}" r="22"/>{words(x, y + 5, "ε")}{beside}'


def arrow(way: str) -> str:
    """An arrow along a path."""
    return f'<path class="flow" d="{way}" marker-end="url(#head)"/>'


def back(way: str) -> str:
    """The way of the gradient along a path."""
    return f'<path class="back" d="{way}" marker-end="url(#back-head)"/>'
