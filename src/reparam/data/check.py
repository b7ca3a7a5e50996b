"""What readers ask first: is the file what its name says, and is there room for it?"""

from __future__ import annotations

import os

from reparam.errors import BadInputError

__all__ = ["TEXT", "UNKNOWN", "DataWarning", "check_room", "looks_like"]

TEXT, UNKNOWN = "text", "something else, or damaged"
_BINARY = (
    (b"\x93NUMPY", "a .npy array"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PAR1", "a parquet table"),
    (b"\x1f\x8b", "gzip: unpack it first"),
    (b"\x80", "a pickle, which is never read because it could run code"),
    (b"\x89HDF", "HDF5"),
    (b"\x89PNG", "a PNG image: give the folder of the images"),
    (b"\xff\xd8\xff", "a JPEG image: give the folder of the images"),
)


class DataWarning(UserWarning):
    """The data can be used, and something about it looks unintended."""


def looks_like(head: bytes) -> str:
    """What a file seems to be, by its first bytes."""
    if not head:
        return "an empty file"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page: a download that got a web page instead of the file"
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer: fetch the file with `git lfs pull`"
    if all(byte in b"\t\n\r\f" or byte >= 32 for byte in head):
        return TEXT
    return next((kind for signature, kind in _BINARY if head.startswith(signature)), UNKNOWN)


def memory() -> int:
    """Bytes of memory that this machine has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return 2**34


def check_room(size: int, title: str) -> None:
    """Refuse what would take more than half of the memory, before any of it is allocated."""
    room = memory() // 2
    if size > room:
        raise BadInputError(
            f"{title} needs {size / 2**30:.3g} GiB of memory and at most {room / 2**30:.3g} GiB may be used here "
            "(half of what the machine has): take fewer rows, or check that the file is what it should be"
        )
