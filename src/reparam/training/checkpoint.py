"""One checkpoint: a folder of safetensors files and a manifest that vouches for every byte of them.

Nothing in it is a pickle, so that loading one runs no code. The engine's own state files are not used for this: they are pickles
that need NumPy's classes, its loader passes over a random state that does not fit, and neither names a damaged tensor.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import reparam
from reparam.errors import ArtefactError
from reparam.training.storage import write_folder

__all__ = [
    "FORMAT",
    "Checkpoint",
    "check_finite",
    "check_format",
    "check_match",
    "looks_like",
    "parse_json",
    "read",
    "versions",
    "write",
]

FORMAT = 1
MANIFEST = "manifest.json"
PARTS = ("weights", "optimizer", "random")
# Of runs whose batches are not rows of data.
EXPERIENCE = "experience"


@dataclass(frozen=True)
class Checkpoint:
    """Everything that training needs to go on as if it had never stopped.

    Attributes:
        state: what JSON holds exactly: step, epoch, batch, sums, best so far, history, environment.
        weights: the model's state dictionary.
        optimizer: the optimiser's tensors, as `"<quantity>/<parameter>"`.
        random: the states of torch's own generators, as `"<device>/<process>"`, for models with dropout.
        experience: what gave the batches remembers, such as the steps that an agent has taken; of rows of data nothing.
    """

    state: dict[str, Any]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    random: dict[str, Tensor]
    experience: dict[str, Tensor] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """The versions of what wrote a file."""
    return {"reparam": reparam.__version__, "torch": torch.__version__, "python": platform.python_version()}


def _sha(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _table(data: bytes) -> dict[str, Any] | None:
    """Name → dtype, shape and SHA-256 of each tensor of a safetensors file; None when its header is not one."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])
        body = memoryview(data)[8 + size :]
        return {
            name: {"dtype": entry["dtype"], "shape": entry["shape"], "sha256": _sha(body[slice(*entry["data_offsets"])])}
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as a new folder, all of it or nothing.

    Raises:
        StorageError: when the disk is full, read-only, or the folder exists.
    """
    from safetensors.torch import save

    files = {}
    for part in (*PARTS, EXPERIENCE) if checkpoint.experience else PARTS:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in getattr(checkpoint, part).items()}
        if part != EXPERIENCE:  # tied weights share memory, and safetensors refuses that; a memory is large, and shares none
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        files[f"{part}.safetensors"] = save(tensors)
    manifest = {
        "format": FORMAT,
        "versions": versions(),
        "state": checkpoint.state,
        "files": {name: {"bytes": len(data), "sha256": _sha(data)} for name, data in files.items()},
        "tensors": _table(files["weights.safetensors"]),
    }
    text = json.dumps({"sha256": _sha(json.dumps(manifest, sort_keys=True).encode()), **manifest})
    write_folder(folder, {**files, MANIFEST: text.encode()})


def looks_like(data: bytes) -> str:
    """What a file that is not what it should be seems to be."""
    head = data[:512].lstrip().lower()
    if not data:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it looks like a git-lfs pointer: fetch the file itself with git lfs pull"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it looks like a web page"
    if data.startswith((b"PK\x03\x04", b"\x80")):
        return "it looks like a pickle, which can run code and is never loaded"
    try:
        data[:512].decode()
    except UnicodeDecodeError:
        return "it looks like damaged or foreign data"
    return "it looks like text"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ArtefactError(f"{path} is missing") from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror or error}") from error


def parse_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ArtefactError: when it is missing, unreadable or something else.
    """
    data = _bytes(path)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ArtefactError(f"{path} is damaged or not of this program: {looks_like(data)}")
    return value


def check_format(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse what a newer version wrote.

    Raises:
        ArtefactError: with both versions.
    """
    came = record.get("format")
    if came != FORMAT:
        writer = record.get("versions")
        by = writer.get("reparam", "?") if isinstance(writer, dict) else "?"
        raise ArtefactError(
            f"{path} has format {came}, written by reparam {by}; this is reparam {reparam.__version__}, "
            f"which reads format {FORMAT}: install the version that wrote it, or a later one"
        )


def _check_bytes(path: Path, data: bytes, promised: Mapping[str, Any], tensors: Mapping[str, Any] | None) -> None:
    if len(data) == promised["bytes"] and _sha(data) == promised["sha256"]:
        return
    found = _table(data) if data[8:9] == b"{" else None
    if found is None and data[8:9] != b"{":
        raise ArtefactError(f"{path} is not a checkpoint: {looks_like(data)}")
    if len(data) < promised["bytes"]:
        raise ArtefactError(f"{path} is truncated: {len(data)} of {promised['bytes']} bytes")
    if len(data) > promised["bytes"]:
        raise ArtefactError(f"{path} is damaged: {len(data)} bytes, {promised['bytes']} were written")
    if found is None or tensors is None:
        raise ArtefactError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}")
    bad = [name for name in tensors if found.get(name) != tensors[name]]
    where = f"tensor {bad[0]}" + (f" and {len(bad) - 1} more" if bad[1:] else "") if bad else "its header"
    raise ArtefactError(f"{path} is damaged in {where}: the SHA-256 is not the one in {MANIFEST}")


def read(folder: Path) -> Checkpoint:
    """Read a checkpoint, having verified every byte of it.

    Raises:
        ArtefactError: when it is missing, damaged, of a newer format, or not a checkpoint.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if folder.is_file():
        raise ArtefactError(f"{folder} is a file, a checkpoint is a folder: {looks_like(_bytes(folder))}")
    if not folder.is_dir():
        raise ArtefactError(f"{folder} is missing")
    manifest = parse_json(folder / MANIFEST)
    promised = manifest.pop("sha256", None)
    check_format(folder / MANIFEST, manifest)
    if promised != _sha(json.dumps(manifest, sort_keys=True).encode()):
        raise ArtefactError(f"{folder / MANIFEST} is damaged: its SHA-256 is not the one it states")
    loaded = {}
    try:
        for part in (*PARTS, EXPERIENCE) if f"{EXPERIENCE}.safetensors" in manifest["files"] else PARTS:
            name = f"{part}.safetensors"
            data = _bytes(folder / name)
            _check_bytes(folder / name, data, manifest["files"][name], manifest["tensors"] if part == "weights" else None)
            try:
                loaded[part] = load(data)
            except SafetensorError as error:
                raise ArtefactError(f"{folder / name} is not what its manifest says: {error}") from error
        return Checkpoint(manifest["state"], **loaded)
    except (KeyError, TypeError) as error:
        raise ArtefactError(f"{folder / MANIFEST} lacks what a checkpoint has: {error}") from error


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def check_match(what: str, came: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and dtypes.

    Raises:
        ArtefactError: listing the first five differences.
    """
    differences = [f"{name} is missing" for name in wanted if name not in came]
    differences += [f"{name} is not in the model" for name in came if name not in wanted]
    differences += [
        f"{name} is {_described(came[name])}, the model has {_described(tensor)}"
        for name, tensor in wanted.items()
        if name in came and (came[name].shape != tensor.shape or came[name].dtype != tensor.dtype)
    ]
    if differences:
        more = f" and {len(differences) - 5} more" if differences[5:] else ""
        raise ArtefactError(f"{what} belongs to another model: {'; '.join(differences[:5])}{more}")


def check_finite(what: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse NaN and infinity.

    Raises:
        ArtefactError: naming the first tensor that holds any.
    """
    for name, tensor in tensors:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise ArtefactError(
                f"{what}: {bad} of {tensor.numel()} values of {name} are NaN or infinite: use an earlier checkpoint, "
                "or allow_nonfinite to look at it all the same"
            )
