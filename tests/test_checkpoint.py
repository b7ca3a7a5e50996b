"""A checkpoint comes back bit for bit, or is refused in one line that says what is wrong with it."""

import hashlib
import json
import pickle
import shutil
import struct

import pytest
import torch

from reparam.errors import ArtefactError, StorageError
from reparam.training import checkpoint as checkpoints
from reparam.training.checkpoint import Checkpoint, check_finite, check_match, looks_like, read, write

WEIGHTS = {"encode.weight": torch.arange(12.0).reshape(3, 4), "encode.bias": torch.randn(3), "empty": torch.zeros(0, 2)}


@pytest.fixture
def checkpoint():
    state = {"step": 7, "epoch": 1, "sums": {"elbo": [0.1 + 0.2]}, "best": None, "history": [{"elbo": 1e-17}]}
    return Checkpoint(state, WEIGHTS, {"exp_avg/encode.bias": torch.ones(3)}, {"cpu/0": torch.get_rng_state()})


@pytest.fixture
def folder(tmp_path, checkpoint):
    write(tmp_path / "step-7", checkpoint)
    return tmp_path / "step-7"


def refused(folder, *words):
    with pytest.raises(ArtefactError) as caught:
        read(folder)
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in message
    assert "weights_only" not in message
    for word in words:
        assert word in message
    return message


def test_round_trip_is_exact(folder, checkpoint):
    came = read(folder)
    assert came.state == checkpoint.state
    for part in ("weights", "optimizer", "random"):
        wanted, got = getattr(checkpoint, part), getattr(came, part)
        assert wanted.keys() == got.keys()
        assert all(torch.equal(wanted[name], got[name]) and wanted[name].dtype == got[name].dtype for name in wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_every_dtype(tmp_path, dtype):
    weights = {"w": torch.tensor([0, 1, 1]).to(dtype)}
    write(tmp_path / "c", Checkpoint({}, weights, {}, {}))
    assert torch.equal(read(tmp_path / "c").weights["w"], weights["w"])
    assert read(tmp_path / "c").weights["w"].dtype == dtype


def test_tied_and_strided_weights(tmp_path):
    w = torch.randn(4, 3)
    write(tmp_path / "c", Checkpoint({}, {"a": w, "b": w, "c": w.T}, {}, {}))
    came = read(tmp_path / "c").weights
    assert torch.equal(came["a"], w)
    assert torch.equal(came["b"], w)
    assert torch.equal(came["c"], w.T)


def test_tensors_that_claim_more_than_they_hold_are_written_in_full_or_not_at_all(tmp_path):
    # A stride of 0 lets 4 bytes claim any size; on disk every element has its own bytes, so nothing small can grow when read.
    write(tmp_path / "c", Checkpoint({}, {"w": torch.ones(1).expand(1000)}, {}, {}))
    assert (tmp_path / "c" / "weights.safetensors").stat().st_size > 4000


def header(size):
    text = json.dumps({"w": {"dtype": "F32", "shape": [size], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(text)) + text + b"\0\0\0\0"


def test_giant_tensor_of_four_bytes(folder):
    (folder / "weights.safetensors").write_bytes(header(10**12))
    refused(folder, "weights.safetensors")


def test_giant_tensor_with_a_manifest_that_vouches_for_it(folder):
    data = header(10**12)
    (folder / "weights.safetensors").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["weights.safetensors"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    vouch(folder, manifest)
    refused(folder, "weights.safetensors")


def vouch(folder, manifest):
    manifest.pop("sha256", None)
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"sha256": digest, **manifest}))


def test_missing_folder(tmp_path):
    refused(tmp_path / "none", "is missing")


def test_file_where_a_folder_should_be(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"w": torch.ones(2)}, path)
    refused(path, "is a file", "pickle")


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "random.safetensors", "manifest.json"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    refused(folder, name, "is missing")


@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json"])
def test_folder_in_place_of_a_file_cannot_be_read(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, name, "cannot be read")


FOREIGN = {
    "empty": (b"", "empty"),
    "text": (b"hello there, this is a text file and no checkpoint at all", "text"),
    "page": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
    "pickle": (pickle.dumps({"w": 1}), "pickle"),
    "zip": (b"PK\x03\x04" + bytes(100), "pickle"),
    "bytes": (bytes(range(128, 256)), "pickle"),
    "noise": (b"\xff\xfe\xfa" * 50, "foreign"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json"])
def test_foreign_file(folder, kind, name):
    data, word = FOREIGN[kind]
    (folder / name).write_bytes(data)
    refused(folder, name, word)
    assert word in looks_like(data)


def test_a_pickle_runs_no_code(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    for name in ("weights.safetensors", "optimizer.safetensors", "random.safetensors", "manifest.json"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(pickle.dumps(Evil()))
        refused(folder, "pickle")
        (folder / name).write_bytes(kept)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", ["weights", "optimizer", "random"])
@pytest.mark.parametrize("cut", [1, 2])
def test_truncated(folder, part, cut):
    path = folder / f"{part}.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] if cut == 1 else data[: len(data) // 2])
    refused(folder, path.name, "truncated", f"of {len(data)} bytes")


def test_truncated_manifest(folder):
    text = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(text[:-1])
    refused(folder, "manifest.json", "damaged")


def test_trailing_bytes(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    refused(folder, "damaged")


def test_any_flipped_bit_is_found_and_the_tensor_named(folder):
    path = folder / "weights.safetensors"
    data = path.read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    table = json.loads(data[8:size])
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        message = refused(folder, "weights.safetensors")
        if position >= size:
            name = next(n for n, e in table.items() if e["data_offsets"][0] <= position - size < e["data_offsets"][1])
            assert f"tensor {name}:" in message


@pytest.mark.parametrize("name", ["optimizer.safetensors", "random.safetensors", "manifest.json"])
def test_flipped_bits_elsewhere_are_found(folder, name):
    path = folder / name
    data = path.read_bytes()
    for position in range(0, len(data), len(data) // 100 + 1):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        refused(folder, name)


def test_files_of_another_checkpoint(tmp_path, folder, checkpoint):
    other = {name: tensor + 1 for name, tensor in WEIGHTS.items()}
    write(tmp_path / "other", Checkpoint(checkpoint.state, other, checkpoint.optimizer, checkpoint.random))
    shutil.copy(tmp_path / "other" / "weights.safetensors", folder)
    refused(folder, "damaged in tensor encode.", "and 1 more")


def test_newer_format_names_both_versions(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["format"], manifest["versions"]["reparam"] = checkpoints.FORMAT + 1, "9.9.9"
    vouch(folder, manifest)
    import reparam

    refused(folder, f"format {checkpoints.FORMAT + 1}", "9.9.9", f"format {checkpoints.FORMAT}:", reparam.__version__)


@pytest.mark.parametrize("field", ["files", "tensors", "state"])
def test_manifest_without_a_field(folder, field):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[field]
    vouch(folder, manifest)
    refused(folder, "manifest.json", field)


@pytest.mark.parametrize("text", ["[1, 2]", "[" * 100_000, "null", '{"format": "1"}', "{}"])
def test_manifest_that_is_other_json(folder, text):
    (folder / "manifest.json").write_text(text)
    refused(folder, "manifest.json")


def test_writing_twice_keeps_the_first(folder, checkpoint):
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(StorageError):
        write(folder, Checkpoint({"step": 8}, {}, {}, {}))
    assert (folder / "manifest.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_match_lists_the_first_five_differences():
    wanted = {**{f"w{i}": torch.zeros(2) for i in range(4)}, "shape": torch.zeros(2, 3), "dtype": torch.zeros(2)}
    came = {"shape": torch.zeros(3, 2), "dtype": torch.zeros(2, dtype=torch.float64), "extra": torch.zeros(1)}
    with pytest.raises(ArtefactError, match=r"w0 is missing; .*extra is not in the model and 2 more$"):
        check_match("it", came, wanted)
    with pytest.raises(ArtefactError, match=r"shape is float32 \[3, 2\], the model has float32 \[2, 3\]; dtype is float64 \[2\]"):
        check_match("it", {**wanted, **came, "extra": torch.zeros(1)}, {**wanted, "extra": torch.zeros(1)})
    check_match("it", wanted, wanted)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_weights_are_named(value):
    with pytest.raises(ArtefactError, match="1 of 2 values of bad are NaN or infinite"):
        check_finite(
            "it", [("good", torch.ones(2)), ("ints", torch.ones(2, dtype=torch.int64)), ("bad", torch.tensor([0.0, value]))]
        )
