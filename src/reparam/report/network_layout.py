"""Where the vertices of a directed graph stand: in layers, parents above children, with few crossings (Sugiyama et al., 1981)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Layout", "Vertex", "layout"]

# Between vertices of a layer, and what an edge takes that passes through one.
_GAP, _EDGE = 14.0, 12.0
_SWEEPS = 12


@dataclass(frozen=True)
class Vertex:
    """What is to be placed.

    Attributes:
        name: of the vertex.
        parents: their names.
        width: that it takes.
        upper: in the upper part of the picture; a vertex there has no parents elsewhere.
    """

    name: str
    parents: tuple[str, ...]
    width: float
    upper: bool = False


@dataclass(frozen=True)
class Layout:
    """Where vertices stand.

    Attributes:
        places: by name, the middle of each and its layer, from above.
        edges: from parent to child, the middles through which the edge goes, one for each layer from the parent's to the child's.
        layers: how many there are.
        upper: how many of them hold the upper vertices.
        width: of the picture.
        ends: left and right of what is below the upper layers.
    """

    places: dict[str, tuple[float, int]]
    edges: dict[tuple[str, str], list[float]]
    layers: int
    upper: int
    width: float
    ends: tuple[float, float]


def layout(vertices: Sequence[Vertex], width: float) -> Layout:
    """Place vertices in a picture of a width, or of a greater one where a layer needs it.

    A vertex stands below its parents. One without parents stands just above its first child. Layers that are too wide become
    several. The order within layers is that of the mean place of neighbours, by several sweeps, the one with fewest crossings.

    Args:
        vertices: parents before children.
        width: that is at hand.

    Example:
        >>> found = layout([Vertex("a", (), 50), Vertex("b", ("a",), 50), Vertex("c", ("a",), 50)], 200)
        >>> found.places["a"], found.layers, found.places["b"][0] < found.places["c"][0]
        ((100.0, 0), 2, True)
    """
    rows = {vertex.name: vertex for vertex in vertices}
    top = _layered([vertex for vertex in vertices if vertex.upper], width)
    layers = top + _layered([vertex for vertex in vertices if not vertex.upper], width)
    layer = {name: i for i, names in enumerate(layers) for name in names}
    # A long edge stands in each layer that it passes.
    chains: dict[tuple[str, str], list[str]] = {}
    widths = {name: vertex.width for name, vertex in rows.items()}
    above: dict[str, list[str]] = {name: [] for name in rows}
    for vertex in vertices:
        for parent in vertex.parents:
            chain = [parent]
            for i in range(layer[parent] + 1, layer[vertex.name]):
                stop = f"{parent}\n{vertex.name}\n{i}"  # no name has line ends
                layers[i].append(stop)
                widths[stop], above[stop] = _EDGE, [chain[-1]]
                chain.append(stop)
            above[vertex.name].append(chain[-1])
            chains[parent, vertex.name] = [*chain, vertex.name]
    layers = _ordered(layers, above)
    needed = max(sum(widths[name] + _GAP for name in names) for names in layers)
    x = _centred(_spread(layers, above, widths, max(width, needed)), widths, max(width, needed))
    lower = _ends(x, widths, [name for names in layers[len(top) :] or layers for name in names])
    return Layout(
        {name: (x[name], layer[name]) for name in rows},
        {edge: [x[name] for name in chain] for edge, chain in chains.items()},
        len(layers),
        len(top),
        max(width, needed),
        lower,
    )


def _layered(vertices: Sequence[Vertex], width: float) -> list[list[str]]:
    """The names by layer; edges from outside of these vertices do not count."""
    inside = {vertex.name for vertex in vertices}
    depth: dict[str, int] = {}
    for vertex in vertices:
        depth[vertex.name] = 1 + max((depth[parent] for parent in vertex.parents if parent in inside), default=-1)
    for vertex in reversed(vertices):
        if not inside & set(vertex.parents):
            below = [depth[child.name] for child in vertices if vertex.name in child.parents]
            depth[vertex.name] = min(below) - 1 if below else depth[vertex.name]
    layers = []
    for i in range(max(depth.values(), default=-1) + 1):
        row: list[str] = []
        used = 0.0
        for vertex in vertices:
            if depth[vertex.name] == i:
                if row and used + vertex.width + _GAP > width:
                    layers.append(row)
                    row, used = [], 0.0
                row.append(vertex.name)
                used += vertex.width + _GAP
        layers += [row] if row else []
    return layers


def _ordered(layers: list[list[str]], above: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Each layer in the order in which fewest edges cross, of those that the sweeps find."""
    below: dict[str, list[str]] = {name: [] for name in above}
    for name, parents in above.items():
        for parent in parents:
            below[parent].append(name)
    best, fewest = layers, _crossings(layers, above)
    for sweep in range(_SWEEPS):
        neighbours, way = (above, layers) if sweep % 2 == 0 else (below, layers[::-1])
        place = {name: i / max(1, len(row) - 1) for row in layers for i, name in enumerate(row)}
        made = []
        for row in way:
            row = sorted(row, key=_barycentre(neighbours, place))
            place |= {name: i / max(1, len(row) - 1) if len(row) > 1 else 0.5 for i, name in enumerate(row)}
            made.append(row)
        layers = made if sweep % 2 == 0 else made[::-1]
        if (found := _crossings(layers, above)) < fewest:
            best, fewest = layers, found
    return best


def _barycentre(neighbours: Mapping[str, Sequence[str]], place: Mapping[str, float]) -> Callable[[str], float]:
    def mean(name: str) -> float:
        others = neighbours[name]
        return sum(place[other] for other in others) / len(others) if others else place[name]

    return mean


def _crossings(layers: Sequence[Sequence[str]], above: Mapping[str, Sequence[str]]) -> int:
    total = 0
    for upper, lower in pairwise(layers):
        place = {name: i for i, name in enumerate(upper)}
        ends = [(place[parent], i) for i, name in enumerate(lower) for parent in above[name] if parent in place]
        total += sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(ends) for c, d in ends[:i])
    return total


def _spread(
    layers: Sequence[Sequence[str]], above: Mapping[str, Sequence[str]], widths: Mapping[str, float], width: float
) -> dict[str, float]:
    """The middle of each: near the mean of its neighbours, in its order, without overlaps."""
    near: dict[str, list[str]] = {name: list(parents) for name, parents in above.items()}
    for name, parents in above.items():
        for parent in parents:
            near[parent].append(name)
    x: dict[str, float] = {}
    for row in layers:
        left = (width - sum(widths[name] + _GAP for name in row)) / 2
        for name in row:
            x[name] = left + (widths[name] + _GAP) / 2
            left += widths[name] + _GAP
    for sweep in range(_SWEEPS):
        for row in layers if sweep % 2 == 0 else layers[::-1]:
            wanted = [sum(x[other] for other in near[name]) / len(near[name]) if near[name] else x[name] for name in row]
            for name, place in zip(row, _apart(wanted, [widths[name] + _GAP for name in row], width), strict=True):
                x[name] = place
    return x


def _ends(x: Mapping[str, float], widths: Mapping[str, float], names: Iterable[str]) -> tuple[float, float]:
    sides = [(x[name] - widths[name] / 2, x[name] + widths[name] / 2) for name in names]
    return min(left for left, _ in sides), max(right for _, right in sides)


def _centred(x: dict[str, float], widths: Mapping[str, float], width: float) -> dict[str, float]:
    left, right = _ends(x, widths, x)
    shift = (width - left - right) / 2
    return {name: place + shift for name, place in x.items()}


def _apart(wanted: Sequence[float], widths: Sequence[float], width: float) -> list[float]:
    """Places as near to those that are wanted as the widths allow, in squares: neighbours that touch move as one."""
    # Without the widths before it each place must not be less than the one before: an isotonic regression.
    before = [sum(widths[:i]) + widths[i] / 2 for i in range(len(widths))]
    blocks: list[tuple[float, int]] = []
    for place, start in zip(wanted, before, strict=True):
        mean, count = place - start, 1
        while blocks and blocks[-1][0] > mean:
            other, more = blocks.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        blocks.append((mean, count))
    most = width - sum(widths)
    shifts = [min(max(mean, 0.0), most) for mean, count in blocks for _ in range(count)]
    return [shift + start for shift, start in zip(shifts, before, strict=True)]
