"""The graph of a graphical model as a drawing: what is observed, what is latent, and what all rows share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reparam.report.chart import quoted
from reparam.report.network_layout import Layout, Vertex, layout

__all__ = ["KINDS", "Variable", "draw", "gathered", "legend"]

#: What a variable may be, and what the key says of it.
KINDS = {
    "observed": "observed",
    "partly": "partly missing",
    "latent": "latent",
    "summed": "latent, summed out",
    "function": "function of its parents",
    "given": "given",
    "unused": "not needed",
}
# In units of the drawing, 472 of which are as wide as the card of a telephone.
_WIDTH, _HEIGHT, _BETWEEN, _MARGIN, _FRAME = 448.0, 44.0, 38.0, 12.0, 18.0
_LONGEST = 15
# With more variables than these, those that stand alike in the graph are drawn as one.
_MANY = 12


@dataclass(frozen=True)
class Variable:
    """A vertex of the drawing.

    Attributes:
        name: that it bears.
        note: in small letters, such as its law.
        kind: one of `KINDS`.
        parents: names of those that arrows come from.
        shared: one value for all rows: outside of the frame.
        known: the share of the rows in which it is observed.
        stands_for: how many variables it is drawn for.
    """

    name: str
    note: str
    kind: str
    parents: tuple[str, ...] = ()
    shared: bool = False
    known: float = 0.0
    stands_for: int = 1


def gathered(variables: Sequence[Variable]) -> list[Variable]:
    """The same, but of many variables those that have the same parents and children, kind and law as one."""
    if len(variables) <= _MANY:
        return list(variables)
    children: dict[str, list[str]] = {v.name: [] for v in variables}
    for v in variables:
        for parent in v.parents:
            children[parent].append(v.name)
    groups: dict[tuple[object, ...], list[Variable]] = {}
    for v in variables:
        groups.setdefault((v.parents, tuple(children[v.name]), v.kind, v.note, v.shared), []).append(v)
    names: dict[str, str] = {}
    made: list[Variable] = []
    for group in groups.values():
        first = group[0]
        if len(group) > 2:
            known = sum(v.known for v in group) / len(group)
            first = replace(first, name=f"{first.name} … {group[-1].name}", known=known, stands_for=len(group))
            first = replace(first, note=f"{len(group)} × {first.note}")
            made.append(first)
        else:
            made += group
        names |= {v.name: first.name if len(group) > 2 else v.name for v in group}
    order = {names[v.name]: i for i, v in reversed(list(enumerate(variables)))}
    made = [replace(v, parents=tuple(dict.fromkeys(names[parent] for parent in v.parents))) for v in made]
    return sorted(made, key=lambda v: order[v.name])


def draw(variables: Sequence[Variable], rows: int) -> str:
    """The drawing as SVG: shared variables above, the others in a frame, arrows from parents to children.

    Args:
        variables: parents before children.
        rows: of the data, which the frame tells.
    """
    texts = {v.name: _cut(v.name) for v in variables}
    widths = {v.name: max(52.0, 24 + 8.3 * len(texts[v.name]), 20 + 6.7 * len(v.note)) for v in variables}
    found = layout([Vertex(v.name, v.parents, widths[v.name], v.shared) for v in variables], _WIDTH)
    framed = found.layers > found.upper
    tops = [_MARGIN + i * (_HEIGHT + _BETWEEN) + (_FRAME if i >= found.upper else 0.0) for i in range(found.layers)]
    height = tops[-1] + _HEIGHT + _MARGIN + (_FRAME + 16 if framed else 0.0)
    parts = []
    if framed:
        top = tops[found.upper] - _FRAME
        label = f"each of {rows:,} rows"
        middle, half = sum(found.ends) / 2 + _MARGIN, max(70.0, (found.ends[1] - found.ends[0]) / 2 + 5 + _MARGIN)
        half = min(half, middle - 1, found.width + 2 * _MARGIN - middle - 1)
        plate = f'x="{middle - half:.0f}" y="{top:.0f}" width="{2 * half:.0f}" height="{height - top - 2:.0f}"'
        parts += [
            f'<rect class="plate" {plate} rx="14"/>',
            f'<text class="small" x="{middle + half - 12:.0f}" y="{height - 11:.0f}" text-anchor="end">{label}</text>',
        ]
    for v in variables:
        parts += [_edge(found, (parent, v.name), tops, widths[v.name]) for parent in v.parents]
    for i, v in enumerate(variables):
        x, layer = found.places[v.name]
        parts.append(_pill(v, texts[v.name], x + _MARGIN, tops[layer], widths[v.name], f"known-{i}"))
    told = "; ".join(f"{v.name}{' given ' + ', '.join(v.parents) if v.parents else ''}: {KINDS[v.kind]}" for v in variables)
    head = (
        '<marker id="graph-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="var(--muted)"/></marker>'
    )
    size = f'viewBox="0 0 {found.width + 2 * _MARGIN:.0f} {height:.0f}" style="min-width: {min(0.66 * found.width, 900):.0f}px"'
    drawn = f'<svg class="idea network" {size} role="img" aria-label="{quoted(told)}"><defs>{head}</defs>{"".join(parts)}</svg>'
    return f'<div class="sliding">{drawn}</div>'


def legend(variables: Sequence[Variable]) -> str:
    """What the looks of the variables mean, those that occur."""
    kinds = [kind for kind in KINDS if any(v.kind == kind for v in variables)]
    return '<div class="legend">' + "".join(f'<span class="{kind}">{KINDS[kind]}</span>' for kind in kinds) + "</div>"


def _cut(name: str) -> str:
    if "…" in name and len(name) > _LONGEST + 6:
        return " … ".join(_cut(part) for part in name.split(" … "))
    return name if len(name) <= _LONGEST or "…" in name else name[: _LONGEST - 1] + "…"


def _edge(found: Layout, edge: tuple[str, str], tops: Sequence[float], width: float) -> str:
    parent, child = edge
    first, last = found.places[parent][1], found.places[child][1]
    way = [place + _MARGIN for place in found.edges[edge]]
    # Arrows that come from the side end at that side of the top.
    lean = max(-0.3 * width, min(0.3 * width, (way[-2] - way[-1]) / 4))
    way[-1] += lean
    text = f"M{way[0]:.1f} {tops[first] + _HEIGHT:.1f}"
    for i in range(1, len(way)):
        layer = first + i
        start = tops[layer - 1] + _HEIGHT
        end = tops[layer] - (2 if layer == last else 0)
        middle = (start + end) / 2
        text += f"C{way[i - 1]:.1f} {middle:.1f} {way[i]:.1f} {middle:.1f} {way[i]:.1f} {end:.1f}"
        if layer < last:
            text += f"V{tops[layer] + _HEIGHT:.1f}"
    return f'<path class="edge" d="{text}" marker-end="url(#graph-head)"/>'


def _pill(v: Variable, text: str, x: float, top: float, width: float, identity: str) -> str:
    radius = 5 if v.kind == "given" else _HEIGHT / 2
    box = f'x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_HEIGHT:.0f}" rx="{radius:.0f}"'
    part = ""
    if v.kind == "partly":
        known = f'x="{x - width / 2:.1f}" y="{top:.1f}" width="{v.known * width:.1f}" height="{_HEIGHT:.0f}"'
        part = f'<clipPath id="{identity}"><rect {known}/></clipPath><rect class="known" {box} clip-path="url(#{identity})"/>'
    name = f'<text x="{x:.1f}" y="{top + 20:.1f}" text-anchor="middle">{quoted(text)}</text>'
    note = f'<text class="small" x="{x:.1f}" y="{top + 35:.1f}" text-anchor="middle">{quoted(v.note)}</text>'
    title = f"<title>{quoted(v.name)}: {KINDS[v.kind]}</title>"
    return f'<g class="variable {v.kind}">{title}{part}<rect class="pill" {box}/>{name}{note}</g>'
