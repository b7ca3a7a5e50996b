"""Writing that a crash, a kill or a full disk cannot tear: a file or a folder is there as a whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reparam.errors import StorageError

__all__ = ["remove_folder", "storing", "sweep", "write_file", "write_folder"]


@contextmanager
def storing(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn what the operating system refuses into one line that says what was needed.

    Raises:
        StorageError: in place of any `OSError`.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        size = f" ({needed} bytes)" if needed else ""
        raise StorageError(
            f"cannot write {path}{size}: {error.strerror or error}; what was saved before is whole: "
            "make room or give a folder that can be written"
        ) from error


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a power cut: a rename is only as durable as the folder that holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_file(path: Path, data: bytes) -> None:
    """Replace a file, or leave it as it was. A symbolic link is followed, permissions are kept.

    Raises:
        StorageError: when it cannot be written, or is not a regular file.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.part")
    with storing(path, len(data)):
        if path.exists() and not path.is_file():
            raise StorageError(f"{path} is not a regular file: move it away")
        try:
            _write(temporary, data)
            if path.exists():
                shutil.copymode(path, temporary)
            temporary.replace(path)
            _sync(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def write_folder(path: Path, files: dict[str, bytes]) -> None:
    """Make a folder of files that appears under its name only when every byte of it is on the disk.

    Raises:
        StorageError: when it cannot be written; nothing of it stays behind.
    """
    real = path.resolve()
    temporary = real.with_name(f".{real.name}.part")
    with storing(path, sum(map(len, files.values()))):
        try:
            if temporary.is_dir():  # of a process that was killed
                shutil.rmtree(temporary)
            temporary.mkdir()
            for name, data in files.items():
                _write(temporary / name, data)
            _sync(temporary)
            temporary.rename(real)
            _sync(real.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def remove_folder(path: Path) -> None:
    """Remove a folder; a crash half-way leaves no torn folder under its name."""
    gone = path.with_name(f".{path.name}.gone")
    with storing(path):
        path.rename(gone)
        shutil.rmtree(gone)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written or half-removed."""
    with storing(folder):
        for pattern in (".*.part", ".*.gone"):
            for left in folder.glob(pattern):
                if left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink()
