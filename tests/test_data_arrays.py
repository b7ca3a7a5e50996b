"""NumPy files: what is found in them, and that nothing in them runs, explodes or passes for something else."""

import io
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from reparam.data import check, load, split
from reparam.errors import BadInputError

X = np.random.default_rng(0).random((6, 4))
Y = np.array([0, 1, 2, 0, 1, 2])


def npz(path, **arrays):
    np.savez(path / "set.npz", **arrays)
    return path / "set.npz"


def refused(path, message, **options):
    with pytest.raises(BadInputError, match=message) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "x",
    [X, X.astype(">f8"), X.astype(np.float16), np.asfortranarray(X), X.astype(np.longdouble)],
    ids=lambda x: f"{x.dtype.str}{x.flags.f_contiguous}",
)
def test_npy(tmp_path, x):
    np.save(tmp_path / "set.npy", x)
    data = load(tmp_path / "set.npy")
    assert torch.equal(data.x, torch.tensor(x.astype(np.float32)))
    assert (data.y, data.name, data.values) == (None, "set", "real")


@pytest.mark.parametrize("dtype", [">i4", "<u2", "u1", ">u8", "b1"])
def test_integers_and_booleans(tmp_path, dtype):
    x = np.array([[0, 1], [1, 0], [1, 1]]) * (1 if dtype == "b1" else 9)
    np.save(tmp_path / "set.npy", x.astype(dtype))
    data = load(tmp_path / "set.npy")
    assert data.x.tolist() == x.tolist()
    assert data.values == ("binary" if dtype == "b1" else "counts")


@pytest.mark.parametrize("names", [("x", "y"), ("data", "target"), ("X", "labels"), ("arr_0", "y"), ("images", "Label")])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_labels(tmp_path, names, save):
    save(tmp_path / "set.npz", **dict(zip(names, (X, Y.astype(">i2")), strict=True)))
    data = load(tmp_path / "set.npz")
    assert torch.equal(data.x, torch.tensor(X).float())
    assert data.y.tolist() == Y.tolist()


def test_the_only_array_with_rows_is_the_data(tmp_path):
    data = load(npz(tmp_path, version=np.array(3), stuff=X))
    assert data.shape == (4,)
    assert data.y is None


def test_named_arrays(tmp_path):
    path = npz(tmp_path, x=X, other=2 * X, y=Y, group=Y + 5)
    data = load(path, array="other", label="group")
    assert torch.equal(data.x, torch.tensor(2 * X).float())
    assert data.y.tolist() == (Y + 5).tolist()
    refused(path, r"has no array 'z'; it has x \(6 x 4 float64\), other \(6 x 4 float64\), y \(6 int64\)", array="z")
    refused(path, "has no array 'z'", label="z")
    refused(path, r"labels of array 'x' .* have shape \(6, 4\): one a row is wanted, 6 in all", label="other")


def test_text_labels_are_numbered_in_order(tmp_path):
    words = np.array(["pear", "apple", "fig", "apple", "pear", "fig"])
    assert load(npz(tmp_path, x=X, y=words)).y.tolist() == [2, 0, 1, 0, 2, 1]
    assert load(npz(tmp_path, x=X, y=np.array(["10", "9", "1", "1", "0", "3"]))).y.tolist() == [10, 9, 1, 1, 0, 3]


def test_several_candidates_are_listed(tmp_path):
    refused(npz(tmp_path, a=X, b=X[:3]), r"a \(6 x 4 float64\), b \(3 x 4 float64\): name the one to use \(array=")
    refused(npz(tmp_path, data=X, images=X), "name the one to use")
    refused(npz(tmp_path), "no arrays: an array of data is wanted")
    many = {f"a{i}": X for i in range(30)}
    refused(npz(tmp_path, **many), "and 20 more: name")


@pytest.mark.parametrize(
    "names",
    [
        {"train": "{}", "valid": "{}", "test": "{}"},
        {"train": "x_{}", "test": "x_{}"},
        {"train": "{}_images", "val": "{}_images", "test": "{}_images"},
    ],
)
def test_sets_of_its_own(tmp_path, names):
    sizes = {"train": 50, "valid": 7, "val": 7, "test": 9}
    rng = np.random.default_rng(1)
    arrays = {template.format(key): rng.random((sizes[key], 3)) for key, template in names.items()}
    labels = {
        ("y_" + key if template == "x_{}" else key + "_labels"): rng.integers(0, 4, (sizes[key], 1))
        for key, template in names.items()
        if template != "{}"
    }
    data = load(npz(tmp_path, **arrays, **labels))
    splits = split(data, validation=0.2)
    assert [len(splits.validation), len(splits.test)] == ([10, 9] if len(names) == 2 else [7, 9])
    assert len(data) == 50
    assert torch.equal(splits.test.x, torch.tensor(arrays[names["test"].format("test")]).float())
    if labels:
        assert splits.test.y.tolist() == next(y for key, y in labels.items() if "test" in key)[:, 0].tolist()
    else:
        assert splits.test.y is None


def test_sets_of_its_own_agree(tmp_path):
    refused(npz(tmp_path, train=X, test=X[:, :2]), r"'test' .* has rows of shape \(2,\), array 'train' .* of shape \(4,\)")
    counts = np.array([[0, 3], [1, 1]])
    data = load(npz(tmp_path, train=np.array([[0, 1], [1, 1]]), test=counts))
    assert (data.values, data.levels, data.test.values, data.test.levels) == ("counts", 3, "counts", 3)
    data = load(npz(tmp_path, x_train=X, x_test=X[:2], y_train=list("bacacb"), y_test=list("cb")))
    assert data.test.y.tolist() == [2, 1]
    digest = data.digest
    assert load(npz(tmp_path, x_train=X, x_test=X[:2] + 1, y_train=list("bacacb"), y_test=list("cb"))).digest != digest


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_objects_are_refused_and_never_run(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    array = np.array([[Bomb()]], dtype=object)
    (np.save if suffix == ".npy" else np.savez)(f"set{suffix}", array)
    refused(f"set{suffix}", "holds Python objects" if suffix == ".npy" else "array 'arr_0' of .* holds Python objects")
    Path("set.npz").write_bytes(pickle.dumps(Bomb()))
    refused("set.npz", "looks like a pickle")
    assert not Path("exploded").exists()


@pytest.mark.parametrize("dtype", ["S3", "U3", "M8[s]", "c8", [("a", "f4")]])
def test_what_is_not_a_number_is_refused(tmp_path, dtype):
    refused(npz(tmp_path, x=np.zeros((3, 2), dtype=dtype)), "array 'x' of .* has dtype .*real numbers are wanted")


@pytest.mark.parametrize("shape", [(), (6,), (0, 4), (2, 2, 2, 2, 2)])
def test_other_shapes_are_refused(tmp_path, shape):
    refused(npz(tmp_path, x=np.zeros(shape)), re.escape(f"has shape {shape}"))


def test_not_finite(tmp_path):
    x = X.copy()
    x[4, 1] = np.nan
    refused(npz(tmp_path, x=x), r"array 'x' of .* holds nan at index \(4, 1\)")


def header(shape, dtype="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": dtype})
    return file.getvalue()


@pytest.mark.parametrize(
    ("shape", "state"), [((10**12, 10**6), "is truncated"), ((3, -2), "goes on"), ((2, 2), "goes on"), ((2, 7), "is truncated")]
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_header_that_lies(tmp_path, shape, state, suffix):
    path = tmp_path / f"set{suffix}"
    content = header(shape) + bytes(8 * 6)
    if suffix == ".npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    refused(path, f"{state}.*its header promises .* 48 follow")


def test_a_huge_header(tmp_path):
    (tmp_path / "set.npy").write_bytes(b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b" " * 1000)
    refused(tmp_path / "set.npy", "damaged or truncated")
    (tmp_path / "set.npy").write_bytes(b"\x93NUMPY\x02\x00" + (20_000).to_bytes(4, "little") + b"(" * 20_000)
    refused(tmp_path / "set.npy", "damaged or truncated")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "set.npz"
    np.savez_compressed(path, x=np.zeros((1000, 1000)))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(check, "memory", lambda: 8_000_000)
    monkeypatch.setattr(np.lib.format, "read_array", lambda *args, **kwargs: pytest.fail("unpacked"))
    refused(path, "needs .* GiB of memory")


def test_no_room(tmp_path, monkeypatch):
    np.save(tmp_path / "set.npy", np.zeros((1000, 10)))
    monkeypatch.setattr(check, "memory", lambda: 100_000)
    monkeypatch.setattr(np.lib.format, "read_array", lambda *args, **kwargs: pytest.fail("allocated"))
    refused(tmp_path / "set.npy", "needs .* GiB of memory")


def is_refused(path, content, digest):
    """Whether damage is noticed; when it is not, the whole data must be there, and no other error may come."""
    path.write_bytes(content)
    try:
        data = load(path)
    except BadInputError as error:
        return "\n" not in str(error)
    assert data.digest == digest
    return False


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_anywhere(tmp_path, suffix, compressed):
    path = tmp_path / f"set{suffix}"
    if suffix == ".npy":
        np.save(path, X)
    else:
        (np.savez_compressed if compressed else np.savez)(path, x=X, y=Y)
    digest, content = load(path).digest, path.read_bytes()
    assert all(is_refused(path, content[:n], digest) for n in range(len(content)))


@pytest.mark.parametrize("compressed", [False, True])
def test_flipped_bits_in_an_archive(tmp_path, compressed):
    path = tmp_path / "set.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=X)
    digest, content = load(path).digest, path.read_bytes()
    failed = 0
    for i in range(len(content)):
        damaged = bytearray(content)
        damaged[i] ^= 1 << (i % 8)
        failed += is_refused(path, bytes(damaged), digest)
    assert failed > len(X.tobytes())  # the checksum covers the values; dates and attributes are free


def test_an_encrypted_archive(tmp_path):
    path = npz(tmp_path, x=X)
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(path, "encrypted")


def test_real_binarized_mnist(shared_data):
    """Its arrays are packed bits, which the data set takes as bytes: the sizes are those of the published split."""
    data = load(shared_data / "binarized_mnist" / "binarized_mnist_packbits.npz")
    assert (len(data), len(data.validation), len(data.test)) == (50_000, 10_000, 10_000)
    assert int(np.unpackbits(data.test.x.numpy().astype(np.uint8)).sum()) == 1_038_896


def test_responses(tmp_path):
    x, y, r = np.random.default_rng(0).normal(size=(4, 2)), np.array([0, 1, 0, 1]), np.arange(8.0).reshape(4, 2) + 0.5
    np.savez(tmp_path / "a.npz", x=x, y=y, strength=r)
    data = load(tmp_path / "a.npz", array="x", response=["strength"])
    assert (data.responses, data.y.tolist()) == (("strength_1", "strength_2"), y.tolist())
    assert data.response.tolist() == r.tolist()
    np.savez(tmp_path / "b.npz", x=x, y=r[:, 0])
    assert load(tmp_path / "b.npz", response=["y"]).response.tolist() == r[:, :1].tolist()
    np.savez(tmp_path / "c.npz", x_train=x, y_train=r[:, 0], x_test=x, y_test=r[:, 1])
    data = load(tmp_path / "c.npz", response=["y"])
    assert (data.response[:, 0].tolist(), data.test.response[:, 0].tolist(), data.y) == (r[:, 0].tolist(), r[:, 1].tolist(), None)
    with pytest.raises(BadInputError, match="has no array 'z'"):
        load(tmp_path / "a.npz", array="x", response=["z"])
    with pytest.raises(BadInputError, match="name one array"):
        load(tmp_path / "a.npz", array="x", response=["strength", "y"])
