"""An episode as a moving picture, as a strip of stills, and as what was seen, done and earned over time."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reparam.errors import BadInputError
from reparam.report.agent import Agent
from reparam.report.chart import quoted
from reparam.report.overtime import acted, earned, seen
from reparam.report.pieces import Figure, Section, minus

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["gif", "rollout"]

# Colours of a moving picture; pictures a second; the widest that it is.
_COLOURS, _RATE, _WIDTH = 48, 15.0, 240
# On the page: seconds, bytes above which fewer pictures are shown, stills and how many of them in a row.
_LONGEST, _MOST, _STILLS, _ACROSS = 10.0, 500_000, 12, 4
# Steps a second at which an episode is shown.
_STEPS = 30.0
_EDGE = (150, 160, 172)


def gif(frames: Sequence[np.ndarray], *, rate: float = _STEPS, width: int = _WIDTH) -> bytes:
    """An animated GIF of pictures H x W x 3 (uint8): small, with about 15 pictures a second, and without end.

    Args:
        frames: the pictures, in order; at least one.
        rate: how many of them make a second: every second one is left out of 30, so that as much time passes.
        width: the widest that it becomes, in pixels.

    Raises:
        BadInputError: for no pictures, or ones of another shape.

    Example:
        >>> import io, numpy as np
        >>> from PIL import Image
        >>> frames = [np.full((40, 60, 3), shade, np.uint8) for shade in range(0, 180, 10)]
        >>> picture = Image.open(io.BytesIO(gif(frames)))
        >>> picture.size, picture.n_frames, picture.info["duration"]
        ((60, 40), 9, 70)
    """
    from PIL import Image

    stride = max(1, round(rate / _RATE))
    small = [_small(frame, width) for frame in frames[::stride]]
    if not small:
        raise BadInputError("there are no pictures to be made a moving one: give at least 1")
    # One palette of pictures from all of the time: colours that change from picture to picture would flicker.
    some = [small[place] for place in np.unique(np.linspace(0, len(small) - 1, 9).round().astype(int))]
    together = Image.new("RGB", (small[0].width, sum(image.height for image in some)))
    for place, image in enumerate(some):
        together.paste(image, (0, place * small[0].height))
    palette = together.quantize(_COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=1)
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in small]
    data = io.BytesIO()
    duration = 10 * max(2, round(100 * stride / rate))  # the format counts hundredths of a second
    first.save(data, format="GIF", save_all=True, append_images=others, duration=duration, loop=0, optimize=True)
    return data.getvalue()


def rollout(agent: Agent) -> Section:
    """The first of the test episodes: pictures of it, and what was seen, done and earned."""
    episode = agent.shown
    steps, total = len(episode.reward), float(episode.reward.sum())
    end = "ended" if episode.terminated else "was cut short"
    came = minus(f"{total:.4g}")
    lead = (
        f"The first of the test episodes, not picked: it {end} after {steps} step{'s' * (steps > 1)} and returned {came}. The "
        "agent takes the action that it finds most likely."
    )
    figures = []
    if episode.frames:
        figures += _pictures(episode.frames, agent.title)
    figures += [figure for figure in (seen(agent), acted(agent), *earned(agent)) if figure is not None]
    return Section("An episode", lead, figures)


def _pictures(frames: Sequence[np.ndarray], title: str) -> list[Figure]:
    shown, width = frames[: round(_LONGEST * _STEPS)], _WIDTH
    data = gif(shown)
    while len(data) > _MOST and width > 60:  # a picture of much detail
        width = round(width / 1.4)
        data = gif(shown, width=width)
    moving = f'<img class="moving" alt="{quoted(f"An episode in {title}, moving")}" src="{_uri(data, "gif")}">'
    first = f"Its first {len(shown)} steps" if len(shown) < len(frames) else "All of it"
    places = np.unique(np.linspace(0, len(frames) - 1, _STILLS).round().astype(int))
    across = min(_ACROSS, len(places))
    stills = _strip([frames[place] for place in places], across)
    steps = ", ".join(map(str, places.tolist()))
    strip = f'<img class="pixels strip" alt="{quoted(f"An episode in {title}, steps {steps}")}" src="{_uri(stills, "png")}">'
    return [
        Figure(f"{first}, {round(_STEPS)} steps a second.", [moving]),
        Figure(f"The same in stills, row by row: steps {steps}.", [strip]),
    ]


def _strip(frames: Sequence[np.ndarray], across: int, *, width: int = 160, gap: int = 6) -> bytes:
    """A PNG of pictures in rows."""
    from PIL import Image, ImageDraw

    small = [_small(frame, width) for frame in frames]
    wide, high = small[0].size
    rows = -(-len(small) // across)
    sheet = Image.new("RGBA", (across * (wide + gap) - gap, rows * (high + gap) - gap))
    for place, image in enumerate(small):
        ImageDraw.Draw(image).rectangle((0, 0, wide - 1, high - 1), outline=_EDGE)  # white on white would have no end
        row, column = divmod(place, across)
        sheet.paste(image, (column * (wide + gap), row * (high + gap)))
    data = io.BytesIO()
    sheet.quantize(96, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(data, format="PNG", optimize=True)
    return data.getvalue()


def _small(frame: Any, width: int) -> Image:
    from PIL import Image

    pixels = np.asarray(frame)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, -1)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype != np.uint8:
        raise BadInputError(f"a picture has shape {pixels.shape} and type {pixels.dtype}: give H x W x 3 of uint8")
    image = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    if image.width <= width:
        return image
    return image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.BOX)


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
