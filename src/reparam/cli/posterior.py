"""`reparam posterior RUN`: what is likely, by a graphical model, about its data or about a new row."""

from __future__ import annotations

import json as json_
import math
from collections.abc import Sequence
from typing import Any, Literal

from reparam.cli import opened
from reparam.errors import BadInputError

__all__ = ["run"]


def run(
    directory: str,
    query: Sequence[str],
    given: Sequence[str],
    do: Sequence[str],
    n: int,
    checkpoint: Literal["best", "last"],
    seed: int,
    *,
    json: bool = False,
) -> None:
    """Print the posterior of some nodes: a line for each number, with its mean, spread and quantiles, or its probabilities.

    Without `given` and `do` it is about the rows that the model was trained on, with them about a new one.

    Args:
        directory: of the run.
        query: the nodes to ask for; none means all that are not known.
        given: what is known of a new row, as name=value.
        do: what is set from outside, as name=value.
        n: draws.
        checkpoint: whose weights.
        seed: of the noise.
        json: print JSON.

    Raises:
        BadInputError: for a model that answers no such question, or a question that it cannot answer.
    """
    model = opened.model(directory, checkpoint)
    opened.able(model, "posterior", directory, "answer questions: reparam train graphical makes one that does")
    evidence, changes = _values(given, "given"), _values(do, "do")
    about_data = not evidence and not changes
    if about_data and model.rows is None:
        model.remember(opened.rows(directory, "train", None, None))  # which says why they are not there
    asked = model.do(changes) if changes else model
    found = asked.posterior(list(query) or None, None if about_data else evidence, n=n, source=opened.noise(seed))
    if json:
        effective = [None if math.isinf(each) else each for each in found.effective.tolist()]
        print(json_.dumps({"about": found.about, "do": changes, "effective": effective, "answers": found.table()}))
    else:
        print(found if not changes else f"after do({', '.join(do)}):\n{found}")


def _values(words: Sequence[str], flag: str) -> dict[str, Any]:
    """Words such as petal_length=1.4 and species=setosa, by name.

    Raises:
        BadInputError: for one that is not so, and for a name that comes twice.
    """
    made: dict[str, Any] = {}
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not (name and equals and text):
            raise BadInputError(f"--{flag} has {word!r}: give name=value, with commas between several")
        if name in made:
            raise BadInputError(f"--{flag} names {name!r} twice: give it one value")
        try:
            made[name] = float(text)
        except ValueError:
            made[name] = text
    return made
