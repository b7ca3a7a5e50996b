"""The nearest right word for a wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["nearest"]


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a message about an unknown word: what was probably meant, or what there is."""
    names = list(known)
    near = get_close_matches(word.lower().replace("-", "_"), names, n=1)
    if near:
        return f": did you mean {prefix}{near[0]}?"
    return f": there are {', '.join(prefix + name for name in names)}" if len(names) <= 12 else ": --help lists them all"
