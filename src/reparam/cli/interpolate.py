"""`reparam interpolate RUN "one sentence" "another"`: the way between two texts through the latents of a run's model."""

from __future__ import annotations

from typing import Any, Literal

from reparam.cli import opened
from reparam.cli.output import destination, write_data
from reparam.data.codec import codec_of
from reparam.data.text import TextCodec
from reparam.errors import BadInputError

__all__ = ["run"]


def run(directory: str, a: str, b: str, steps: int, output: str | None, checkpoint: Literal["best", "last"]) -> None:
    """Print the texts from one to another, a line each, or write them.

    Args:
        directory: of the run.
        a: the text to begin with.
        b: the text to end with.
        steps: texts in all; the first and the last are reconstructions of `a` and `b`.
        output: a .txt file to write, in place of printing.
        checkpoint: whose weights.

    Raises:
        BadInputError: for a run that is not of texts, for a text that its codec does not take, and for fewer than two steps.
    """
    if steps < 2:
        raise BadInputError(f"steps is {steps}: give at least 2, the two ends")
    path = None if output is None else destination(output, (".txt",), opened.source(directory))
    facts = opened.facts(directory)
    codec: Any = codec_of(facts["codec"]) if facts.get("codec") else None
    model = opened.model(directory, checkpoint)
    interpolate = opened.able(model, "interpolate", directory)
    if not isinstance(codec, TextCodec):
        raise BadInputError(
            f"{directory} is not of texts, and texts are what this goes between: its report shows the way between data"
        )
    x = codec.encode([a, b], title="the pair of texts")
    made = interpolate(x[:1], x[1:], steps)[:, 0]
    if path is None:
        print("\n".join(codec.decode(made)))
    else:
        write_data(path, {"x": made.numpy()}, facts)
        print(path)
