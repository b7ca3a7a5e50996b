"""What the checks found, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Finding", "PropertyError", "Report"]

_MARKS = {True: "holds", False: "FAILS", None: "not checked"}


@dataclass(frozen=True)
class Finding:
    """What one look at a property showed.

    Attributes:
        property: which property.
        passed: whether it holds; None where it was not looked at.
        found: what was found and wanted; for a statistical check with the smallest error that it catches, or why there was no look.
        alpha: the false-alarm rate; zero for a check without randomness.
    """

    property: str
    passed: bool | None
    found: str
    alpha: float = 0.0


@dataclass(frozen=True)
class Report:
    """All findings; true when none failed. Prints as a table.

    Example:
        >>> report = Report((Finding("shapes", True, "as promised"), Finding("law", False, "p = 1e-30", alpha=1e-9)))
        >>> bool(report), report.failed
        (False, ('law',))
        >>> print(report)
        property  result  found
        shapes    holds   as promised
        law       FAILS   p = 1e-30
    """

    findings: tuple[Finding, ...]

    def __bool__(self) -> bool:
        return not self.failed

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def failed(self) -> tuple[str, ...]:
        """The properties that do not hold, each once."""
        return tuple(dict.fromkeys(f.property for f in self.findings if f.passed is False))

    @property
    def alpha(self) -> float:
        """The chance that all this fails when nothing is wrong."""
        return sum(f.alpha for f in self.findings)

    def __str__(self) -> str:
        rows = [("property", "result", "found"), *((f.property, _MARKS[f.passed], f.found) for f in self.findings)]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        return "\n".join(f"{name:{widths[0]}}  {mark:{widths[1]}}  {found}" for name, mark, found in rows)


class PropertyError(AssertionError):
    """Some properties do not hold: the message says which, what was found and what was wanted.

    Attributes:
        report: all findings, those that hold among them.
    """

    def __init__(self, law: str, report: Report) -> None:
        self.report = report
        failures = "\n".join(f"- {f.property}: {f.found}" for f in report if f.passed is False)
        super().__init__(
            f"{law} does not hold to {', '.join(report.failed)}:\n{failures}\n"
            f"(a law without faults fails with a probability of {report.alpha:.1g})"
        )
