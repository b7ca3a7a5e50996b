"""Folders of WAV files, as `reparam sample` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reparam.data.dataset import Array
from reparam.data.wav import to_wav
from reparam.errors import BadInputError
from reparam.training.storage import write_folder

__all__ = ["sound_folder", "write_sounds"]


def sound_folder(output: str, flag: str = "--output") -> Path:
    """The path of a folder to make for sounds, which is new or empty.

    Raises:
        BadInputError: when it is the name of a file, or a folder with something in it.
    """
    path = Path(output)
    if "\0" in output or path.name in ("", ".."):  # where the user stands is not to be replaced
        raise BadInputError(f"{flag} {output!r} is no name of a folder: give one, such as sounds/")
    if path.suffix or (path.exists() and not path.is_dir()):
        raise BadInputError(f"{flag} {output}: give the name of a folder for sounds, such as sounds/")
    if path.is_dir() and any(path.iterdir()):
        raise BadInputError(f"{flag} {output} is a folder with files in it: give the name of a new one")
    return path


def write_sounds(folder: Path, waveforms: Mapping[str, Array], rate: int) -> None:
    """Write waveforms as WAV files of 16 bits.

    Args:
        folder: new or empty; it is there with all of its files, or not at all.
        waveforms: T values in [-1, 1] each, by the stem of their file.
        rate: samples a second.
    """
    write_folder(folder, {f"{name}.wav": to_wav(samples, rate) for name, samples in waveforms.items()})
