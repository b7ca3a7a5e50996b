"""From what a user types to a data set: a name, a file, or a folder."""

from __future__ import annotations

import difflib
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args

from reparam.data.arrays import read_npy, read_npz
from reparam.data.audio import AudioCodec
from reparam.data.bundled import BUNDLED, LABELS
from reparam.data.check import TEXT, UNKNOWN, looks_like
from reparam.data.codec import Codec
from reparam.data.comma import read_csv
from reparam.data.dataset import Data, Part, assemble
from reparam.data.idx import has_idx, read_idx_folder
from reparam.data.images import OnError, read_image_folder
from reparam.data.mixed import as_table, read_table
from reparam.data.parquet import read_parquet
from reparam.data.recordings import has_wav, read_audio_folder
from reparam.data.roles import read_sequences
from reparam.data.sequences import Actions, Layout, check_options
from reparam.data.table import TableCodec
from reparam.data.text import TextCodec, read_text
from reparam.errors import BadInputError

__all__ = ["BUNDLED", "Gaps", "load"]

Gaps = Literal["fail", "keep"]
AnyCodec = TypeVar("AnyCodec", TextCodec, AudioCodec, TableCodec)
_OFFERED = [name for name in BUNDLED if name != "none"]  # which is for a model that sees no data
NONE: Mapping[str, Any] = MappingProxyType({})
# How the bytes of each kind of file begin; a table may begin with any text.
_SIGNATURES = {".csv": b"", ".npy": b"\x93NUMPY", ".npz": b"PK", ".parquet": b"PAR1"}


def load(
    spec: str | Path,
    *,
    array: str | None = None,
    label: str | None = None,
    response: Sequence[str] | None = None,
    gaps: Gaps = "fail",
    categorical: Sequence[str] | None = None,
    on_error: OnError = "fail",
    text: Mapping[str, Any] = NONE,
    sound: Mapping[str, Any] = NONE,
    codec: Codec | None = None,
    layout: Layout = "auto",
    window: int | None = None,
    actions: Actions = "taken",
) -> Data:
    """Read a data set and check it.

    With layout="sequence" an `.npz` holds N sequences of T steps: the array `observation` (or observations, obs, x, data, images,
    samples), N x T x D vectors, N x T x H x W, N x T x C x H x W or N x T x H x W x C pictures; and, where there are any, `action`,
    N x T x A reals or integers, N x T or N x T x K, that count choices from 0; `reward`, `terminated` (terminals, done) and
    `truncated` (timeouts), N x T; `first`, N x T, where another episode begins in a row; `length`, N, or `mask`, N x T: how many of
    the observations are there; and labels, N. All of `action`, `reward` and the ends may be one shorter in time: then they lie
    between the observations. With one axis less it is one long recording, cut where an episode ends or, by `episode` or `first`,
    another one begins; where an action was taken at its last observation too, `next_observation` holds the one that it led to. A
    table is such a recording, too: its rows are times, columns of these names, or action_0, action_1, ..., come beside the
    observations, and actions that are whole numbers from 0 count choices.

    Args:
        spec: "digits" (8 x 8 handwritten digits), "moons", "breast_cancer", "diabetes", "iris" or "eight_schools", which are at
            hand, "mnist" (fetched from OpenML once), or the path of a `.npz`, `.npy`, `.csv`, `.parquet` or `.txt` file, of a
            folder of IDX files, or of a folder of images or WAV recordings whose sub-folders, if any, are the labels.
        array: the array of an `.npz` to use, when its names do not tell.
        label: the column of a table, or the array of an `.npz`, that holds the labels.
        response: the columns of a table, or the array of an `.npz`, that hold reals to be predicted.
        gaps: what a missing value does: "fail", or "keep", which reads a table with gaps, of columns of numbers and of categories,
            as [`from_frame`][reparam.data.from_frame] makes it; labels and responses are columns as others are.
        categorical: with gaps="keep", columns of numbers that are names of categories.
        on_error: what an unusable image or recording in a folder does: "fail", or "skip" with a warning.
        text: options of [`read_text`][reparam.data.text.read_text], for a `.txt`.
        sound: options of [`read_audio_folder`][reparam.data.recordings.read_audio_folder], for a folder of recordings.
        codec: of texts, sounds or tables that were read before, to read these in the same way.
        layout: "sequence" reads a `.npz`, `.npy`, `.csv` or `.parquet` file as sequences; "auto" as rows.
        window: of sequences, cut them into windows of at most so many steps, as few and as equal as can be; where some are a step
            shorter than others, a mask says so.
        actions: of sequences, what action t of a file means, where there are as many as observations: "taken", it was taken at
            observation t, and the reward and the end of the same place follow, as gymnasium, minari and D4RL record; "led", it led
            to observation t, with the reward and the end found there.

    Raises:
        BadInputError: when there is nothing there, or what is there is no finite, complete data set; the message names the file
            and the line, column, array or image.

    Example:
        >>> from reparam.data import load
        >>> data = load("digits")
        >>> len(data), data.shape, data.values, data.levels
        (1797, torch.Size([1, 8, 8]), 'counts', 16)
        >>> data.scaling
        'pixels are counts 0..16; the encoder sees x / 16'
    """
    if not str(spec):
        raise BadInputError(f"data is '': give a path, or one of {', '.join(map(repr, _OFFERED))}")
    check_options(layout, window, actions)
    if layout == "sequence":
        given = {"response": response, "categorical": categorical, "gaps": None if gaps == "fail" else gaps, **text, **sound}
        _refuse_options(f"{str(spec)!r} as sequences", **given)
        return _load_sequences(spec, array, label, window, actions)
    if gaps not in get_args(Gaps):
        raise BadInputError(f"gaps is {gaps!r}: give fail or keep")
    if gaps == "keep" or isinstance(codec, TableCodec):
        _refuse_options(f"{str(spec)!r} as a table with gaps, whose columns are all alike", response=response, **text, **sound)
        return _load_table(spec, array, label, categorical or (), _of(TableCodec, codec, repr(str(spec))))
    _refuse_options(f"{str(spec)!r} without gaps='keep'", categorical=categorical)
    if isinstance(spec, str) and spec in BUNDLED:
        _refuse_options(repr(spec), array=array, label=label, response=response, **text, **sound)
        return BUNDLED[spec]()
    path, mode = _find(spec)
    title = repr(str(path))
    try:
        if stat.S_ISDIR(mode):
            if has_wav(path):
                _refuse_options(f"the folder {title}", array=array, response=response, **text)
                return read_audio_folder(path, label=label, on_error=on_error, codec=_of(AudioCodec, codec, title), **sound)
            _refuse_options(f"the folder {title}", array=array, label=label, response=response, **text, **sound)
            parts = read_idx_folder(path) if has_idx(path) else read_image_folder(path, on_error)
            return assemble(parts, name=path.name or "data", source=str(path))
        if stat.S_ISREG(mode) and path.suffix.lower() == ".txt":
            _refuse_options(title, array=array, label=label, response=response, **sound)
            return read_text(path, codec=_of(TextCodec, codec, title), **text)
        if stat.S_ISREG(mode):
            _refuse_options(title, **text, **sound)
            return assemble(_read_file(path, array, label, response), name=path.stem, source=str(path))
    except OSError as error:
        raise BadInputError(f"{title} cannot be read: {error.strerror or error}") from error
    raise BadInputError(f"{title} is neither a file nor a folder")


def _load_sequences(spec: str | Path, array: str | None, label: str | None, window: int | None, actions: Actions) -> Data:
    """Sequences from a file."""
    path, mode = (None, 0) if isinstance(spec, str) and spec in BUNDLED else _find(spec)
    if path is None or not stat.S_ISREG(mode) or path.suffix.lower() == ".txt":
        raise BadInputError(
            f"{str(spec)!r} has no sequences of observations, as layout='sequence' (--layout sequence) and models of sequences "
            "want: give a .npz, .npy, .csv or .parquet file"
        )
    try:
        if (suffix := _kind(path)) != ".npz":
            _refuse_options(f"{str(path)!r} as sequences", array=array, label=label)
        return read_sequences(path, suffix, array=array, label=label, window=window, actions=actions)
    except OSError as error:
        raise BadInputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error


def _load_table(
    spec: str | Path, array: str | None, label: str | None, categorical: Sequence[str], codec: TableCodec | None
) -> Data:
    """A table of numbers and categories, with gaps."""
    if isinstance(spec, str) and spec in BUNDLED:
        _refuse_options(repr(spec), array=array, label=label)
        return as_table(BUNDLED[spec](), LABELS.get(spec, "label"), categorical, codec)
    path, mode = _find(spec)
    title = repr(str(path))
    if not stat.S_ISREG(mode) or path.suffix.lower() == ".txt":
        raise BadInputError(
            f"{title} is no table, as gaps='keep' (--gaps keep) and models of tables want: give a .csv, .parquet, .npz or .npy file"
        )
    try:
        if _kind(path) != ".npz":
            _refuse_options(f"{title} as a table with gaps, whose columns are all alike", array=array, label=label)
        return read_table(path, array=array, label=label, categorical=categorical, codec=codec)
    except OSError as error:
        raise BadInputError(f"{title} cannot be read: {error.strerror or error}") from error


def _find(spec: str | Path) -> tuple[Path, int]:
    """The path in full, and its mode."""
    try:
        path = Path(spec).expanduser().resolve()
        return path, path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError, RuntimeError) as error:  # the last two: a NUL, an unknown ~user
        near = difflib.get_close_matches(str(spec), _OFFERED, n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"give a path, or one of {', '.join(map(repr, _OFFERED))}"
        raise BadInputError(f"there is no file, folder or data set {str(spec)!r}: {meant}") from error
    except OSError as error:
        raise BadInputError(f"{str(spec)!r} cannot be read: {error.strerror or error}") from error


def _kind(path: Path) -> str:
    """The suffix of a file, which begins as files of that kind do."""
    suffix = path.suffix.lower()
    if suffix not in _SIGNATURES:
        near = difflib.get_close_matches(suffix, [*_SIGNATURES, ".txt"], n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        known = " ".join([*_SIGNATURES, ".txt"])
        raise BadInputError(f"{str(path)!r} is of no known kind: {known} or a folder of images or IDX files is wanted{meant}")
    with path.open("rb") as file:
        head = file.read(512)
    signature, came = _SIGNATURES[suffix], looks_like(head)
    if not (head.startswith(signature) if signature else came in (TEXT, UNKNOWN)):
        raise BadInputError(f"{str(path)!r} is not {suffix} (it looks like {came})")
    return suffix


def _read_file(path: Path, array: str | None, label: str | None, response: Sequence[str] | None) -> Mapping[str, Part]:
    suffix = _kind(path)
    if suffix == ".npz":
        return read_npz(path, array, label, response)
    _refuse_options(repr(str(path)), array=array)
    if suffix == ".csv":
        return read_csv(path, label, response)
    if suffix == ".parquet":
        return read_parquet(path, label, response)
    _refuse_options(repr(str(path)), label=label, response=response)
    return read_npy(path)


def _of(kind: type[AnyCodec], codec: Codec | None, title: str) -> AnyCodec | None:
    """The codec, which must be of a kind."""
    if codec is None or isinstance(codec, kind):
        return codec
    raise BadInputError(f"{title} is of another kind than the run's data, which are of kind {codec.kind}: give such data")


def _refuse_options(title: str, **options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise BadInputError(f"{name}={value!r} has no meaning for {title}: leave it out")
