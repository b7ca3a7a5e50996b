"""A diagnosis in words: a table, warnings and a recommendation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from reparam.diagnostics.finding import Finding, Part

if TYPE_CHECKING:
    from reparam.diagnostics.diagnose import Diagnosis

__all__ = ["cells", "duration", "efficiency", "number", "recommendation", "table", "warnings"]

# A share of the best efficiency from which on two are called equal.
_AS_GOOD = 0.8
# A noise that multiplies a parameter's variance by this much is said to hurt it.
_HURTS = 1.3
# Largest tail index that variances are doubted at, and the share of one draw in the variance that is worth a word.
_HEAVY, _ONE_DRAW = 2.0, 0.2
_FEW = 100
# An error below this share of the gradient is that of arithmetic, or of a fine quadrature.
_MANY_DIGITS = 1e-5


def number(value: float, digits: int = 3) -> str:
    """A number to a few significant digits."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}g}"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale or unit == "µs":
            return f"{seconds / scale:.3g} {unit}"
    raise AssertionError


def cells(diagnosis: Diagnosis) -> list[tuple[str, ...]]:
    """The cells of the table, its heading first."""
    heading = ("estimator", "bias ± 95 %", "variance", "SNR", "time a draw", "efficiency", "")
    rows: list[tuple[str, ...]] = [
        (
            row.name,
            "–" if math.isnan(row.bias) else f"{number(row.bias)} ± {number(row.bias_error, 2)}",
            number(row.variance),
            number(row.snr),
            duration(row.seconds),
            efficiency(row),
            "biased" if row.biased else "sees no gradient" if row.unseen else "",
        )
        for row in diagnosis.rows
    ]
    return [heading, *rows]


def table(diagnosis: Diagnosis) -> str:
    """The aligned table, the recommendation, and below it what to beware of."""
    lines_of_cells = cells(diagnosis)
    widths = [max(map(len, column)) for column in zip(*lines_of_cells, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines_of_cells
    ]
    said = [fill(diagnosis.recommendation, 110)]
    said += [_item(f"{name}: {text}") for name, texts in diagnosis.warnings.items() for text in texts]
    said += [_item(text) for text in diagnosis.remarks]
    return "\n".join([*(line.rstrip() for line in lines), "", *said])


def efficiency(row: Finding) -> str:
    """As a share of the best one's, or why there is no such number."""
    if row.variance == 0:
        return "exact" if _is_fair(row) else "no noise"
    return number(row.relative, 2)


def _item(text: str) -> str:
    return fill(text, 110, initial_indent="- ", subsequent_indent="  ")


def recommendation(rows: Sequence[Finding]) -> str:
    """Which estimator to use, and why.

    Of those that are neither flagged as biased nor say so themselves, an exact one or the one of the highest efficiency.
    """
    if rows and all(row.nothing_to_see for row in rows):
        return _of_no_gradient(rows)
    usable = [row for row in rows if not row.broken and not row.unseen and math.isfinite(row.variance)]
    fair = [row for row in usable if _is_fair(row)]
    if not fair:
        if not usable:
            return "None of these can be recommended: see the warnings."
        best = min(usable, key=lambda row: row.mean_squared_error * row.seconds)
        return f"All of these are biased or not finite. {best.name} has the least of squared error and time: {_facts(best)}."
    best = max(fair, key=lambda row: (row.efficiency, row.documented is None, -row.seconds))
    others = sorted((row for row in fair if row is not best and row.variance > 0), key=lambda row: -row.efficiency)
    if best.variance == 0:
        text = f"Use {best.name}: exact here, {duration(best.seconds)} a draw."
        if best.documented:
            text += f" It says of itself: {best.documented}"
        if others and (best.documented or best.seconds > 10 * others[0].seconds):
            text += f" The best of those that sample is {others[0].name}: {_facts(others[0])}."
        return text + _tempting(rows, best)
    text = f"Use {best.name}: unbiased as far as {best.draws} draws show, {_facts(best)}"
    equal = [row.name for row in others if row.relative >= _AS_GOOD * best.relative]
    rest = [row for row in others if row.name not in equal]
    if equal:
        text += f"; {_and(equal)} {'is' if len(equal) == 1 else 'are'} as efficient within the noise of this comparison"
    if rest:
        text += f"; {number(best.efficiency / rest[0].efficiency, 2)} times as efficient as {rest[0].name}"
    return f"{text}.{_tempting(rows, best)}"


def _of_no_gradient(rows: Sequence[Finding]) -> str:
    text = (
        "The gradient is zero here, as far as the digits of the parameters show: look at another point. Variance is all there is "
        "to compare, and biases are given as they are, not as shares."
    )
    quiet = [row.name for row in rows if row.variance == 0 and not row.biased and not row.broken]
    if quiet:
        text += f" Without noise: {_and(quiet)}."
    noisy = [row for row in rows if 0 < row.variance < math.inf and not row.biased and not row.broken]
    if noisy:
        best = max(noisy, key=lambda row: row.efficiency)
        text += f" Of those with noise, {best.name} is the most efficient: {_facts(best)}."
    return text


def _is_fair(row: Finding) -> bool:
    """Whether it can be taken for unbiased: it says so and nothing speaks against it, or it is right here to many digits."""
    right = row.variance == 0 and abs(row.bias) + row.bias_error <= _MANY_DIGITS * row.norm
    return not (row.biased or row.unseen) and (row.documented is None or right)


def _tempting(rows: Sequence[Finding], best: Finding) -> str:
    """A biased estimator whose squared error in the same time is below that of the best unbiased one."""
    biased = [row for row in rows if not (_is_fair(row) or row.unseen or row.broken or math.isnan(row.bias))]
    near = [row for row in biased if row.mean_squared_error * row.seconds < best.variance * best.seconds]
    if not near:
        return ""
    row = min(near, key=lambda row: row.mean_squared_error * row.seconds)
    return (
        f" {row.name} is off by {_share(row)} of the gradient, and yet nearer to it on average in the same time: it may do for a "
        "start, and not for the end of a training."
    )


def _facts(row: Finding) -> str:
    return f"variance {number(row.variance)}, signal to noise {number(row.snr)}, {duration(row.seconds)} a draw"


def _share(row: Finding) -> str:
    return f"{max(abs(row.bias), row.bias_length) / row.norm:.2g}" if row.norm else number(row.bias_length)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"


def warnings(rows: Sequence[Finding]) -> dict[str, list[str]]:
    """What to beware of, by estimator."""
    found = {row.name: [*_of_one(row), *_of_noise(row, rows)] for row in rows}
    return {name: texts for name, texts in found.items() if texts}


def _of_one(row: Finding) -> list[str]:
    texts = []
    if row.biased:
        size = f"biased by {number(row.bias)} ± {number(row.bias_error, 2)}"
        size += f" along the gradient, by {_share(row)} of its length in all" if row.norm else ", where the gradient is zero"
        texts.append(f"{size}. " + (row.documented or "It says that it is unbiased: is the cost a smooth function of the sample?"))
    elif row.documented and not _is_fair(row):
        texts.append(f"no bias was found beyond {number(abs(row.bias) + row.bias_error, 2)}, but: {row.documented}")
    if row.unseen:
        texts.append(
            "a gradient that should not be zero was zero in each draw: a rare event, or a cost that is cut from the graph."
        )
    if row.broken:
        texts.append(f"{row.broken} of {row.broken + row.draws} draws were not finite; they are left out of the numbers.")
    if row.tail_bound < _HEAVY:
        texts.append(f"infinite variance suspected: the tail of the draws falls like a power of {row.tail:.1f}.")
    elif row.share > _ONE_DRAW and row.draws >= _FEW:
        texts.append(f"heavy tails: one draw of {row.draws} makes {row.share:.0%} of the variance, which is only roughly known.")
    return texts


def _of_noise(row: Finding, rows: Sequence[Finding]) -> list[str]:
    """Parameters whose gradient has more variance than that of the same estimator under fresh noise."""
    plain, comma, _ = row.name.rpartition(", ")
    fresh = next((other for other in rows if comma and other.name == plain), None)
    if fresh is None:
        return []
    ratios = {name: _ratio(part, fresh.parts[name]) for name, part in row.parts.items()}
    worse = {name: ratio for name, ratio in ratios.items() if ratio > _HURTS}
    better = [name for name, ratio in ratios.items() if ratio < 1 / _HURTS]
    if not worse:
        return []
    hurt = _and([f"{name} {number(ratio, 2)} times" for name, ratio in worse.items()])
    return [f"raises the variance of {hurt}" + (f", though it lowers that of {_and(better)}." if better else ".")]


def _ratio(part: Part, fresh: Part) -> float:
    return part.variance / fresh.variance if fresh.variance else 1.0
