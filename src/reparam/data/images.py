"""Folders of images of one size."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from reparam.data.check import DataWarning, check_room
from reparam.data.dataset import Array, Part
from reparam.errors import BadInputError

__all__ = ["OnError", "read_image_folder"]

OnError = Literal["fail", "skip"]

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
MOST_PIXELS = 2**24


def read_image_folder(folder: Path, on_error: OnError = "fail") -> Mapping[str, Part]:
    """All images in a folder and below it, in the order of their paths.

    Black-and-white images are binary, grey and colour ones have levels 0..255; an opaque alpha channel is dropped. If every
    image lies in a sub-folder, the names of the sub-folders are the labels.

    Args:
        folder: where to look. Hidden files and other kinds of files are passed over.
        on_error: "fail" stops at the first image that cannot be used (damaged, another size or number of channels than the first,
            more than 2^24 pixels, transparent, animated); "skip" leaves such images out and warns with their number.

    Raises:
        BadInputError: naming the image, or when there is none.
    """
    if on_error not in get_args(OnError):
        raise BadInputError(f"on_error={on_error!r}: 'fail' or 'skip' is wanted")
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file() and not _hidden(path, folder)
    )
    if not paths:
        kinds = " ".join(sorted(SUFFIXES))
        raise BadInputError(
            f"{str(folder)!r} has neither images ({kinds}) nor IDX files nor recordings (.wav): give a folder that has, or a file"
        )
    kept: list[Path] = []
    images: list[Array] = []
    refused: list[str] = []
    for path in paths:
        try:
            image = _read(path)
            if images and (image.shape, image.dtype) != (images[0].shape, images[0].dtype):
                raise BadInputError(
                    f"{str(path)!r} is {_describe(image)}, {str(kept[0])!r} is {_describe(images[0])}: "
                    "all images must have one size and one kind of pixels"
                )
        except BadInputError as error:
            if on_error == "fail":
                raise BadInputError(f"{error} (or skip such files: on_error='skip', --bad_files skip)") from error
            refused.append(str(error))
            continue
        if not images:
            check_room(5 * image.size * len(paths), f"{str(folder)!r}, {len(paths)} images of {_describe(image)},")
        kept.append(path)
        images.append(image)
    if not images:
        raise BadInputError(f"none of the {len(paths)} images in {str(folder)!r} can be used; the first: {refused[0]}")
    if refused:
        warnings.warn(f"{len(refused)} of {len(paths)} images were skipped; the first: {refused[0]}", DataWarning, stacklevel=3)
    inside = [path.relative_to(folder).parts for path in kept]
    y = np.array([parts[0] for parts in inside]) if all(len(parts) > 1 for parts in inside) else None
    return {"train": Part(np.stack(images), y, repr(str(folder)))}


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _describe(image: Array) -> str:
    channels, height, width = image.shape
    return f"{width} x {height} {'colour' if channels > 1 else 'black and white' if image.dtype == bool else 'grey'}"


def _read(path: Path) -> Array:
    """One image as C x H x W bytes, or booleans if it is black and white."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow's own limit is higher than ours, which comes before any pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
        with image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise BadInputError(
                    f"{str(path)!r} has {width} x {height} pixels, and at most {MOST_PIXELS} are read: make it smaller"
                )
            if getattr(image, "n_frames", 1) > 1:
                raise BadInputError(f"{str(path)!r} has {image.n_frames} frames: save each as an image of its own")
            if image.mode == "P" or "transparency" in image.info:
                alpha = "A" if "transparency" in image.info else ""
                image = image.convert(("L" if image.mode == "L" else "RGB") + alpha)
            if image.mode in ("LA", "RGBA"):
                if image.getextrema()[-1][0] < 255:
                    raise BadInputError(f"{str(path)!r} is transparent: put it on a background and save it without alpha")
                image = image.convert(image.mode[:-1])
            if image.mode not in ("1", "L", "RGB"):
                raise BadInputError(f"{str(path)!r} has mode {image.mode}: save it as 8-bit grey or RGB")
            pixels = np.asarray(image)
    except BadInputError:
        raise
    except Exception as error:  # Pillow's decoders raise anything when a file is damaged
        reason = str(error).replace(str(path), "").split("\n")[0] or type(error).__name__
        raise BadInputError(f"{str(path)!r} cannot be read as an image ({reason}): remove it or get it again") from error
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
