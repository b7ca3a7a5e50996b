"""Folders of recordings, as log-mel spectrograms of one size."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from reparam.data.audio import MELS, MOST_MELS, WINDOW, AudioCodec
from reparam.data.check import DataWarning, check_room
from reparam.data.dataset import Array, Data, Part, assemble
from reparam.data.images import OnError
from reparam.data.wav import MOST_SECONDS, RATES, Recording, read_wav
from reparam.errors import BadInputError

__all__ = ["has_wav", "read_audio_folder"]

SUFFIX = ".wav"
BY_NAME = "name"


def has_wav(folder: Path) -> bool:
    """Whether a folder, or one below it, holds a WAV file."""
    return any(True for _ in _wavs(folder))


def read_audio_folder(
    folder: Path,
    *,
    label: str | None = None,
    rate: int | None = None,
    mels: int | None = None,
    seconds: float | None = None,
    on_error: OnError = "fail",
    codec: AudioCodec | None = None,
) -> Data:
    """All WAV files in a folder and below it, in the order of their paths, as log-mel spectrograms.

    Without `label`, and if every recording lies in a sub-folder, the names of the sub-folders are the labels.

    Args:
        folder: where to look. Hidden files and other kinds of files are passed over.
        label: "name" takes the labels from the names of the files, up to the first underscore: "7" of 7_jackson_3.wav.
        rate: samples a second, to which recordings are resampled. None takes the lowest rate among them, and warns if they differ:
            what is above half of it in some is not in the others.
        mels: bands of the spectrogram; 40 unless given.
        seconds: the length of all; longer recordings lose their ends. None takes the longest, and refuses one of more than 30 s.
        on_error: "fail" stops at the first recording that cannot be used (see [`read_wav`][reparam.data.wav.read_wav]; also one
            shorter than a window of 32 ms); "skip" leaves such recordings out and warns with their number.
        codec: that of other data, which these are to fit, in place of the three settings before.

    Raises:
        BadInputError: naming the recording, or when there is none.

    Example:
        >>> import tempfile
        >>> from reparam.data.wav import to_wav
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, hertz in {"low_1": 300, "high_1": 3000}.items():
        ...         tone = np.sin(2 * np.pi * hertz * np.arange(2400) / 8000)
        ...         _ = (Path(folder) / f"{name}.wav").write_bytes(to_wav(0.5 * tone, rate=8000))
        ...     data = read_audio_folder(Path(folder), label="name")
        >>> data.x.shape, data.classes, data.codec.seconds
        (torch.Size([2, 1, 40, 24]), ('high', 'low'), 0.368)
    """
    _check_settings(label, rate, mels, seconds, on_error)
    paths = sorted(_wavs(folder))
    if not paths:
        raise BadInputError(f"{str(folder)!r} has no recordings ({SUFFIX}): give a folder that has")
    check_room(3 * sum(path.stat().st_size for path in paths), f"{str(folder)!r}, {len(paths)} recordings,")
    kept, recordings = _read(paths, folder, seconds if codec is None else codec.seconds, on_error)
    if codec is None:
        rates = sorted({recording.rate for recording in recordings})
        if rate is None and len(rates) > 1:
            warnings.warn(
                f"the recordings in {str(folder)!r} have rates from {rates[0]} to {rates[-1]} samples a second: all are "
                f"resampled to {rates[0]}",
                DataWarning,
                stacklevel=3,
            )
        longest = seconds or max(len(recording.samples) / recording.rate for recording in recordings)
        codec = AudioCodec.for_length(longest, rate or rates[0], mels or MELS)
    check_room(8 * len(kept) * codec.mels * codec.frames, f"{str(folder)!r}, {len(kept)} spectrograms of {codec.seconds:.3g} s,")
    x = codec.encode([_resampled(recording, codec.rate) for recording in recordings])
    part = Part(x, _labels(kept, folder, label), repr(str(folder)))
    data = assemble({"train": part}, name=folder.name or "audio", source=str(folder), values="real")
    return replace(
        data, codec=codec, scaling=f"values are log energies of {codec.mels} mel bands, from {x.min():.3g} to {x.max():.3g}"
    )


def _check_settings(label: str | None, rate: int | None, mels: int | None, seconds: float | None, on_error: str) -> None:
    low, high = RATES
    if label not in (None, BY_NAME):
        raise BadInputError(f"label={label!r}: a folder of recordings has labels by its sub-folders, or by label={BY_NAME!r}")
    if rate is not None and not low <= rate <= high:
        raise BadInputError(f"rate is {rate}: {low} to {high} samples a second are wanted")
    if mels is not None and not 1 <= mels <= MOST_MELS:
        raise BadInputError(f"mels is {mels}: 1 to {MOST_MELS} bands are wanted")
    if seconds is not None and not WINDOW <= seconds <= MOST_SECONDS:
        raise BadInputError(f"seconds is {seconds:g}: {WINDOW:g} to {MOST_SECONDS:g} are wanted")
    if on_error not in get_args(OnError):
        raise BadInputError(f"on_error={on_error!r}: 'fail' or 'skip' is wanted")


def _wavs(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() == SUFFIX and not hidden and path.is_file():
            yield path


def _read(paths: list[Path], folder: Path, seconds: float | None, on_error: OnError) -> tuple[list[Path], list[Recording]]:
    kept: list[Path] = []
    recordings: list[Recording] = []
    refused: list[str] = []
    for path in paths:
        try:
            try:
                recording = read_wav(path, seconds)
            except OSError as error:
                raise BadInputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
            if (length := len(recording.samples) / recording.rate) < WINDOW:
                raise BadInputError(f"{str(path)!r} is {1000 * length:.3g} ms long: at least {1000 * WINDOW:g} ms are wanted")
        except BadInputError as error:
            if on_error == "fail":
                raise BadInputError(f"{error} (or skip such recordings: on_error='skip', --bad_files skip)") from error
            refused.append(str(error))
            continue
        kept.append(path)
        recordings.append(recording)
    if not kept:
        raise BadInputError(f"none of the {len(paths)} recordings in {str(folder)!r} can be used; the first: {refused[0]}")
    if refused:
        warnings.warn(f"{len(refused)} of {len(paths)} recordings were skipped; the first: {refused[0]}", DataWarning, stacklevel=4)
    return kept, recordings


def _resampled(recording: Recording, rate: int) -> Array:
    if recording.rate == rate:
        return recording.samples
    import librosa

    made: Array = librosa.resample(recording.samples, orig_sr=recording.rate, target_sr=rate)
    return made


def _labels(paths: list[Path], folder: Path, label: str | None) -> Array | None:
    if label == BY_NAME:
        for path in paths:
            if not path.stem.partition("_")[0] or "_" not in path.stem:
                raise BadInputError(f"{str(path)!r} has no label in its name: label_....wav is wanted with label={BY_NAME!r}")
        return np.array([path.stem.split("_")[0] for path in paths])
    inside = [path.relative_to(folder).parts for path in paths]
    return np.array([parts[0] for parts in inside]) if all(len(parts) > 1 for parts in inside) else None
