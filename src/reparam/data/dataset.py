"""A data set: a tensor in natural units, and the few facts about it that a model and a reader need."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reparam.data.check import DataWarning, check_room
from reparam.data.codec import Codec
from reparam.errors import BadInputError

__all__ = [
    "LARGEST",
    "Data",
    "Part",
    "Splits",
    "Values",
    "assemble",
    "channels_first",
    "check_finite",
    "describe",
    "encode_labels",
    "scaling_of",
]

Values = Literal["binary", "counts", "real", "tokens", "table"]
Array = np.ndarray[Any, Any]

# Whole numbers up to here are counts: the levels of an 8-bit picture.
MOST_LEVELS = 255
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Data:
    """A data set in memory.

    Attributes:
        x: N + shape, float32, in natural units: 0/1, counts 0..levels, or reals that are not standardised; int64 for
            tokens; of a table with gaps N x D, NaN where a value is missing, and the places of categories.
        y: N integer labels, or None.
        name: what reports call it: "digits", a file's stem.
        source: what `load` takes to read it again.
        values: what the numbers are; decides the default likelihood: bernoulli, binomial, gaussian, or that of a text;
            "table" for one of numbers and categories, with gaps.
        levels: the largest possible count or token (digits 16, 8-bit pictures 255); None unless `values` is one of these.
        scaling: one sentence on the numbers, for people.
        validation: the source's own validation set, where it has one.
        test: the source's own test set, where it has one.
        rows: which rows of the source these are, where it is a part of them.
        classes: the names of the labels, in the order of the labels.
        codec: for texts, sounds and tables with gaps, the way back from numbers.
        columns: of a table with a header, the names of the columns of x.
        response: N x K reals, float32, that are to be predicted, or None.
        responses: their K names.
        sequence: whether a datum is a sequence: x is then N x T + the shape of a step, and `shape` is (T, ...).
        beside: of sequences, by name and N x T each, what comes with their steps: "first", where an episode begins; and where the
            source has them "action", which led to the step (float32 N x T x A, or choices, int64 N x T or N x T x K), "reward",
            got on the way there, "terminated", where an episode came to its end, and "mask", which steps are there: the rest, of
            sequences of unequal length, is zeros at their ends. Action and reward are 0 where an episode begins.
        choices: of actions that are choices, how many there are to choose from, for each of the K.
    """

    x: Tensor = field(repr=False)
    y: Tensor | None = field(repr=False)
    name: str
    source: str
    values: Values
    levels: int | None
    scaling: str
    validation: Data | None = field(default=None, repr=False)
    test: Data | None = field(default=None, repr=False)
    rows: Tensor | None = field(default=None, repr=False)
    classes: tuple[str, ...] | None = None
    codec: Codec | None = None
    columns: tuple[str, ...] | None = None
    response: Tensor | None = field(default=None, repr=False)
    responses: tuple[str, ...] | None = None
    sequence: bool = False
    beside: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    choices: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> torch.Size:
        """The shape of one datum: (C, H, W) for images, (D,) for vectors, (L,) for texts, (T, ...) for sequences."""
        return self.x.shape[1:]

    @property
    def places(self) -> Tensor:
        """The place of each label in `classes`, N integers: what models that are conditional on labels take.

        Raises:
            BadInputError: for data without labels.
        """
        if self.y is None or self.classes is None:
            raise BadInputError(f"{self.name} has no labels: name their column or array (label=..., --label)")
        try:
            numbers = torch.tensor([int(name) for name in self.classes])
        except ValueError:  # texts, whose labels are their places
            return self.y
        return torch.searchsorted(numbers, self.y)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shapes and bytes, in hex: of `x`, `y`, `response`, what is `beside`, the source's other sets, the codec."""
        digest = hashlib.sha256()
        if self.codec is not None:  # the same codes may stand for other texts
            digest.update(json.dumps(self.codec.facts(), sort_keys=True).encode())
        for name, tensor in (("", self.x), ("", self.y), ("", self.response), *sorted(self.beside.items())):
            if tensor is not None:
                digest.update(name.encode())
                array = tensor.numpy().astype(tensor.numpy().dtype.newbyteorder("<"), order="C", copy=False)
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(array.data)
        for part in (self.validation, self.test):
            digest.update(b"-" if part is None else part.digest.encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Splits:
    """Training, validation and test rows of one data set, and the seed that drew them."""

    train: Data
    validation: Data
    test: Data
    seed: int


class Part(NamedTuple):
    """What a reader found: raw values, raw labels, what messages call them, of a table the names of its columns, and responses."""

    x: Array
    y: Array | None
    title: str
    columns: tuple[str, ...] | None = None
    response: Array | None = None
    responses: tuple[str, ...] | None = None


def assemble(
    parts: Mapping[str, Part],
    *,
    name: str,
    source: str,
    values: Values | None = None,
    levels: int | None = None,
) -> Data:
    """One data set from the part "train" and, where the source has them, "validation" and "test"."""
    xs = {key: _to_float(part) for key, part in parts.items()}
    _check_same_shape(parts, xs)
    values, levels = describe(list(parts.values()), list(xs.values()), values, levels)
    scaling = scaling_of(xs["train"], values, levels)
    ys, classes = encode_labels(parts)
    responses, names = _responses(parts)
    made: dict[str, Data] = {}
    for key in ("validation", "test", "train"):
        if key in parts:
            y = None if ys[key] is None else torch.from_numpy(ys[key])
            made[key] = Data(
                torch.from_numpy(xs[key]),
                y,
                name,
                source,
                values,
                levels,
                scaling,
                classes=classes,
                columns=parts["train"].columns,
                response=responses.get(key),
                responses=names,
            )
    return replace(made["train"], validation=made.get("validation"), test=made.get("test"))


def _responses(parts: Mapping[str, Part]) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    """The responses of each part, N x K finite float32, and their names."""
    made: dict[str, Tensor] = {}
    for key, part in parts.items():
        if part.response is None:
            continue
        found = part.response[:, None] if part.response.ndim == 1 else part.response
        if found.dtype.kind not in "biuf" or found.ndim != 2 or len(found) != len(part.x) or not found.shape[1]:
            raise BadInputError(
                f"the response of {part.title} has shape {part.response.shape} and dtype {part.response.dtype}: one real number a "
                f"row is wanted, or N x K of them, for {len(part.x)} rows"
            )
        if len(bad := np.argwhere(~(np.abs(found.astype(np.float64)) <= LARGEST))):
            raise BadInputError(
                f"the response of {part.title} is {found[tuple(bad[0])]} in row {bad[0][0] + 1} ({len(bad)} such): finite float32 "
                "numbers are wanted"
            )
        made[key] = torch.from_numpy(np.array(found, dtype=np.float32, order="C"))
    if not made:
        return made, None
    size = next(iter(made.values())).shape[1]
    if len(made) < len(parts) or any(found.shape[1] != size for found in made.values()):
        raise BadInputError("all parts of the data must have the same responses, or none: " + ", ".join(parts))
    default = ("response",) if size == 1 else tuple(f"response_{i + 1}" for i in range(size))
    names = parts["train"].responses or default
    for name, values in zip(names, made["train"].unbind(1), strict=True):
        if len(values) > 1 and bool((values == values[0]).all()):
            warnings.warn(f"{parts['train'].title}: the response {name} is always {values[0]:g}", DataWarning, stacklevel=4)
    return made, names


def _to_float(part: Part) -> Array:
    """The values as contiguous, finite float32, images with their channels first."""
    x, title = part.x, part.title
    if x.dtype.kind not in "biuf":
        raise BadInputError(f"{title} has dtype {x.dtype}: real numbers are wanted (integers, booleans or floats)")
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise BadInputError(
            f"{title} has shape {x.shape}: N x D vectors, or N x H x W, N x C x H x W or N x H x W x C images are wanted, "
            "with at least one row" + ("; for one number a row, reshape it to N x 1" if x.ndim == 1 and x.size else "")
        )
    check_room(4 * x.size, title)
    with np.errstate(over="ignore"):
        made = np.array(channels_first(x), dtype=np.float32, order="C")  # a copy: nobody else's writes reach the data set
    check_finite(made, part.x, title)
    return made


def channels_first(x: Array) -> Array:
    """Pictures with an axis for channels, before the others: of the two places for it, the shorter axis; vectors as they are."""
    if x.ndim == 3:
        return x[:, None]
    return np.moveaxis(x, 3, 1) if x.ndim == 4 and x.shape[3] < x.shape[1] else x


def check_finite(made: Array, given: Array, title: str, at: tuple[int, ...] = (), start: int = 0) -> None:
    """Refuse what is not finite as float32, naming where it was given: behind the indices `at`, from `start` on.

    Raises:
        BadInputError: naming the array, the index and the value.
    """
    if np.isfinite(made.sum(dtype=np.float64)):
        return
    # NaN, infinities, and what is too large for float32: none of them compares as smaller.
    bad = np.argwhere(~(np.abs(np.asarray(given, dtype=np.float64)) <= LARGEST))
    place = tuple(int(i) for i in bad[0])
    index = (*at, start + place[0], *place[1:])
    raise BadInputError(f"{title} holds {given[place]} at index {index} ({len(bad)} such): finite float32 numbers are wanted")


def _check_same_shape(parts: Mapping[str, Part], xs: Mapping[str, Array]) -> None:
    wanted = xs["train"].shape[1:]
    for key, x in xs.items():
        if x.shape[1:] != wanted:
            raise BadInputError(f"{parts[key].title} has rows of shape {x.shape[1:]}, {parts['train'].title} of shape {wanted}")


def describe(parts: Sequence[Part], xs: Sequence[Array], values: Values | None, levels: int | None) -> tuple[Values, int | None]:
    """What the numbers are, as asked for or as found; checked."""
    low, high = min(float(x.min()) for x in xs), max(float(x.max()) for x in xs)
    if low == high and len(xs[0]) > 1:
        warnings.warn(f"{parts[0].title} is constant: every value is {low:g}", DataWarning, stacklevel=4)
    whole = low >= 0 and high <= max(MOST_LEVELS, levels or 0) and all(bool((x == np.rint(x)).all()) for x in xs)
    if values in ("tokens", "table"):
        raise BadInputError(f"values={values!r} is for texts and tables: from_lines and from_frame make such data")
    if values is None:
        values = "real" if not whole else "binary" if high <= 1 and levels in (None, 1) else "counts"
    elif values != "real" and not (whole and (values == "counts" or high <= 1)):
        wanted = "only 0 and 1" if values == "binary" else f"whole numbers 0..{levels or MOST_LEVELS}"
        raise BadInputError(f"values={values!r} wants {wanted}; {parts[0].title} has values from {low:g} to {high:g}")
    if values != "counts":
        return values, None
    if levels is None:
        bytes_ = all(part.x.dtype == np.uint8 for part in parts)
        levels = MOST_LEVELS if bytes_ and high > 16 else max(int(high), 1)
    if high > levels:
        raise BadInputError(f"levels={levels} is below the largest value, {high:g}, of {parts[0].title}")
    return values, levels


def scaling_of(x: Array, values: Values, levels: int | None) -> str:
    """One sentence on numbers, for people."""
    noun = "pixels" if x.ndim == 4 else "values"
    if values == "binary":
        return f"{noun} are 0 or 1"
    if values == "counts":
        return f"{noun} are counts 0..{levels}; the encoder sees x / {levels}"
    return f"{noun} are reals from {x.min():.4g} to {x.max():.4g}, not rescaled"


def encode_labels(parts: Mapping[str, Part]) -> tuple[dict[str, Array | None], tuple[str, ...] | None]:
    """Labels as integers, and their names: whole numbers as they are, texts as their place in the sorted list of all parts'."""
    given = {key: _one_a_row(part) for key, part in parts.items() if part.y is not None}
    made: dict[str, Array | None] = dict.fromkeys(parts)
    if not given:
        return made, None
    try:
        numbers = {key: y.astype(np.float64) if y.dtype.kind in "OSU" else y for key, y in given.items()}
    except ValueError:
        names, places = np.unique(np.concatenate([y.astype(str) for y in given.values()]), return_inverse=True)
        ends = np.cumsum([len(y) for y in given.values()])[:-1]
        return made | dict(zip(given, np.split(places.astype(np.int64), ends), strict=True)), tuple(map(str, names))
    for key, y in numbers.items():
        if y.dtype.kind not in "biuf" or not np.isfinite(y).all() or (y != np.rint(y)).any():
            raise BadInputError(
                f"the labels of {parts[key].title} are not whole numbers or texts: give classes, not measurements "
                "(those that are to be predicted are a response: response=..., --response)"
            )
        if (far := np.abs(y.astype(np.float64)).max(initial=0)) >= 2**63:
            raise BadInputError(f"the labels of {parts[key].title} go to {far:g}: whole numbers below 2^63 are wanted")
        made[key] = y.astype(np.int64)
    return made, tuple(map(str, np.unique(np.concatenate([made[key] for key in numbers]))))


def _one_a_row(part: Part) -> Array:
    y: Array = part.y  # type: ignore[assignment]
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != part.x.shape[:1]:
        raise BadInputError(f"the labels of {part.title} have shape {y.shape}: one a row is wanted, {part.x.shape[0]} in all")
    return y
