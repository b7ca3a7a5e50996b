"""The table of distributions: how each is made differentiable, read off the path of an example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.cli.examples import classes, example
from reparam.paths import NoPathError, Path, path
from reparam.paths.parameters import map_parameters
from reparam.paths.path import is_discrete

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Row", "rows", "show", "summary"]


@dataclass(frozen=True)
class Row:
    """What the table says of a class.

    Attributes:
        name: of the class.
        package: `torch` or `reparam`.
        how: `explicit`, by a formula; `implicit`, by a quantile that is solved for, with the derivatives of what it solves;
            `by its parts`; or `none`.
        noise: the noise of the example: how many values, of which kind, and how many make up a sample.
        second: whether second derivatives are there.
        half: whether float16 and bfloat16 are taken, and computed in float32.
        bias: of the gradient of an expectation.
        formula: of the path, or what to use instead of one.
    """

    name: str
    package: str
    how: str
    noise: str
    second: str
    half: str
    bias: str
    formula: str


_TITLES = ("distribution", "of", "path", "noise", "second derivatives", "half precision", "bias", "formula, or what to use instead")
_RELAXED = ("RelaxedBernoulli", "LogitRelaxedBernoulli", "RelaxedOneHotCategorical", "ExpRelaxedCategorical")


def rows() -> list[Row]:
    """The table, by package and name; those without a path last."""
    return sorted(map(_row, classes()), key=lambda row: (row.how == "none", row.package != "torch", row.name))


def _row(cls: type[Distribution]) -> Row:
    d, package = example(cls), cls.__module__.partition(".")[0]
    try:
        path(d)
    except NoPathError as error:
        instead = str(error).partition(", with ")[2] if is_discrete(d) else str(error)
        return Row(cls.__name__, package, "none", "", "", "", "", instead)
    leaves: list[Tensor] = []

    def leaf(value: Tensor) -> Tensor:
        if value.is_floating_point():
            leaves.append(value.detach().double().requires_grad_())
            return leaves[-1]
        return value

    p = path(map_parameters(d, leaf))
    eps = p.noise.draw().requires_grad_()
    x = p.push(eps)
    maker = path._makers.dispatch(cls)
    by_parts = maker.__module__ == "reparam.paths.compose"
    return Row(
        cls.__name__,
        package,
        "by its parts" if by_parts else "implicit" if _is_implicit(x) else "explicit",
        _noise(p, x),
        "yes" if _has_second_derivatives(x, [*leaves, eps]) else "no",
        "yes" if _takes_half_precision(d) else "no",
        "for the discrete law" if cls.__name__ in _RELAXED else "none",
        (maker.__doc__ or "").split("\n")[0].replace("`", "").rstrip("."),
    )


def _noise(p: Path, x: Tensor) -> str:
    count, size = p.noise.shape.numel(), x.numel()
    return f"{count} {p.noise.kind.name}" + (f" for {size}" if size != count else "") if count else "none"


def _is_implicit(x: Tensor) -> bool:
    """Whether a derivative that was given, and not derived, is part of the graph of a sample."""
    seen, left = set(), [x.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [before for before, _ in node.next_functions]
    return any(node.name() == "_BothBackward" for node in seen)


def _has_second_derivatives(x: Tensor, inputs: list[Tensor]) -> bool:
    """Whether the first derivatives are functions of the inputs again, or those of a location, which are one."""
    slopes = torch.autograd.grad(x.sum(), inputs, create_graph=True, allow_unused=True)
    return all(slope is None or slope.requires_grad or bool((slope == 1).all()) for slope in slopes)


def _takes_half_precision(d: Distribution) -> bool:
    try:
        p = path(map_parameters(d, lambda value: value.bfloat16() if value.is_floating_point() else value))
        x = p.push(p.noise.draw())
    except (NoPathError, TypeError, RuntimeError):
        return False
    return x.dtype == torch.bfloat16 and bool(x.isfinite().all())


def summary(table: list[Row]) -> str:
    """How many there are."""
    with_path = Counter(row.package for row in table if row.how != "none")
    return (
        f"{with_path.total()} reparameterised classes: {with_path['torch']} of torch.distributions, {with_path['reparam']} of "
        f"reparam.distributions. {len(table) - with_path.total()} have no path."
    )


def show(*, json: bool = False) -> None:
    """Print the table: as JSON, for a terminal, or as plain columns."""
    table = rows()
    if json:
        import json as json_

        print(json_.dumps([asdict(row) for row in table]))
        return
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        _show_on_terminal(console, table)
    else:
        for line in _columns([_TITLES, *map(astuple, table)]):
            print(line)
    print(f"\n{summary(table)}")


def _columns(cells: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _show_on_terminal(console: Console, table: list[Row]) -> None:
    """Two lines or more for each class: what is said of it, and below its formula, as wide as the terminal is."""
    from rich.padding import Padding
    from rich.text import Text

    found = [row for row in table if row.how != "none"]
    heading, *lines = _columns([("distribution", "path", "noise", "2nd", "half", "bias"), *map(_short, found)])
    for package in ("torch", "reparam"):
        console.print(Text(f"\n{package}.distributions", style="bold"))
        console.print(Text(heading, style="dim"))
        for row, line in zip(found, lines, strict=True):
            if row.package == package:
                console.print(Text(line))
                console.print(Padding(Text(row.formula, style="dim"), (0, 0, 0, 4)))
    console.print(Text("\nNo path: what to use instead", style="bold"))
    for row in table:
        if row.how == "none":
            console.print(Text(row.name))
            console.print(Padding(Text(row.formula, style="dim"), (0, 0, 0, 4)))


def _short(row: Row) -> tuple[str, ...]:
    return row.name, row.how, row.noise, row.second, row.half, row.bias
