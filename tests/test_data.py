"""Data sets: what they say about themselves, how they are split, and which names and paths are understood."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from reparam.data import DataWarning, from_dataset, from_tensor, load, split
from reparam.data import check as check_module
from reparam.data.codec import codec_of
from reparam.errors import BadInputError


def test_digits():
    data = load("digits")
    assert (len(data), data.shape, data.values, data.levels) == (1797, (1, 8, 8), "counts", 16)
    assert data.x.dtype == torch.float32
    assert (data.x.min(), data.x.max()) == (0, 16)
    assert data.y.dtype == torch.int64
    assert data.y.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.name == data.source == "digits"


def test_digest_is_that_of_the_values_and_never_changes():
    data = load("digits")
    # Pinned: a run records it, and resumes only with the same data.
    assert data.digest == "8e11c7b90891f92c793b8cef61345cb6d1a2e48038b2955f5678a3c6860eb4d9"
    other = data.x.clone()
    other[5, 0, 3, 3] += 1
    assert from_tensor(other, data.y, name="digits").digest != data.digest
    assert from_tensor(data.x, data.y, name="other name").digest == data.digest
    assert from_tensor(data.x, None, name="digits").digest != data.digest
    assert from_tensor(data.x.reshape(-1, 64), data.y, name="digits").digest != data.digest


@pytest.mark.parametrize(
    ("x", "values", "levels"),
    [
        (torch.tensor([[0.0, 1.0], [1.0, 1.0]]), "binary", None),
        (torch.tensor([[True, False]]), "binary", None),
        (torch.tensor([[0, 16], [3, 4]], dtype=torch.uint8), "counts", 16),
        (torch.tensor([[0, 17], [3, 4]], dtype=torch.uint8), "counts", 255),
        (torch.tensor([[0, 17], [3, 4]]), "counts", 17),
        (torch.tensor([[0.0, 255.0]]), "counts", 255),
        (torch.tensor([[0, 256]]), "real", None),
        (torch.tensor([[-1, 3]]), "real", None),
        (torch.tensor([[0.5, 1.0]]), "real", None),
        (torch.tensor([[0.5, 1.0]], dtype=torch.bfloat16), "real", None),
        (torch.tensor([[0.5, 1.0]], dtype=torch.float64), "real", None),
    ],
)
def test_what_the_values_are(x, values, levels):
    data = from_tensor(x, name="t")
    assert (data.values, data.levels) == (values, levels)
    assert torch.equal(data.x, x.float())
    assert data.scaling.startswith(f"values are {values}" if values != "binary" else "values are 0 or 1") or values == "real"


def test_values_as_asked_for():
    x = torch.tensor([[0, 1], [1, 0]])
    assert from_tensor(x, name="t", values="counts", levels=300).levels == 300
    assert from_tensor(x, name="t", values="real").values == "real"
    assert from_tensor(x + 299, name="t", values="counts", levels=300).levels == 300
    with pytest.raises(BadInputError, match=r"values='binary' wants only 0 and 1; .* from 0 to 3"):
        from_tensor(3 * x, name="t", values="binary")
    with pytest.raises(BadInputError, match="wants whole numbers"):
        from_tensor(x / 3, name="t", values="counts")
    with pytest.raises(BadInputError, match=r"0\.\.300"):
        from_tensor(x + 300, name="t", values="counts", levels=300)
    with pytest.raises(BadInputError, match="levels=2 is below the largest value, 3"):
        from_tensor(3 * x, name="t", values="counts", levels=2)


def test_the_data_set_is_a_copy():
    x = torch.rand(4, 3)
    data = from_tensor(x, name="t")
    kept = x.clone()
    x.zero_()
    assert torch.equal(data.x, kept)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((5, 7), (7,)),
        ((5, 9, 6), (1, 9, 6)),
        ((5, 3, 9, 6), (3, 9, 6)),
        ((5, 9, 6, 3), (3, 9, 6)),
        ((5, 9, 6, 1), (1, 9, 6)),
        ((5, 1, 9, 6), (1, 9, 6)),
        ((5, 1, 1, 1), (1, 1, 1)),
        ((5, 3, 9, 3), (3, 9, 3)),
        ((5, 12, 14, 14), (12, 14, 14)),
    ],
)
def test_images_get_their_channels_first(shape, wanted):
    x = torch.arange(float(np.prod(shape))).reshape(shape)
    data = from_tensor(x, name="t")
    assert data.shape == wanted
    if len(shape) == 4 and wanted != shape[1:]:
        x = x.permute(0, 3, 1, 2)
    assert torch.equal(data.x, x.reshape(5, *wanted))
    assert ("pixels" in data.scaling) == (len(shape) > 2)


@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (5, 0), (2, 2, 2, 2, 2)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(BadInputError, match=re.escape(f"shape {shape}")):
        from_tensor(torch.zeros(shape), name="t")


def test_one_number_a_row_is_told_to_be_reshaped():
    with pytest.raises(BadInputError, match="reshape it to N x 1"):
        from_tensor(torch.rand(5), name="t")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_not_finite(value):
    x = torch.rand(4, 3, 2, dtype=torch.float64)
    x[2, 1, 0] = x[3, 0, 0] = value
    with pytest.raises(BadInputError, match=rf"holds {re.escape(str(value))} at index \(2, 1, 0\) \(2 such\)"):
        from_tensor(x, name="t")


def test_complex_is_refused():
    with pytest.raises(BadInputError, match="complex64"):
        from_tensor(torch.zeros(2, 2, dtype=torch.complex64), name="t")


def test_labels_are_whole_numbers_one_a_row():
    x = torch.rand(3, 2)
    assert from_tensor(x, torch.tensor([2.0, 0.0, 1.0]), name="t").y.tolist() == [2, 0, 1]
    assert from_tensor(x, torch.tensor([[2], [0], [1]]), name="t").y.tolist() == [2, 0, 1]
    for bad in (torch.tensor([0.5, 0, 1]), torch.tensor([float("nan"), 0, 1])):
        with pytest.raises(BadInputError, match="give classes, not measurements"):
            from_tensor(x, bad, name="t")
    with pytest.raises(BadInputError, match="one a row is wanted, 3 in all"):
        from_tensor(x, torch.tensor([1, 2]), name="t")


def test_constant_data_warns():
    with pytest.warns(DataWarning, match="is constant: every value is 3"):
        from_tensor(torch.full((4, 2), 3.0), name="t")


def test_no_room(monkeypatch):
    monkeypatch.setattr(check_module, "memory", lambda: 1000)
    from_tensor(torch.rand(25, 5), name="t")
    with pytest.raises(BadInputError, match="GiB of memory"):
        from_tensor(torch.rand(26, 5), name="t")


# Splits


def test_split_is_a_partition_that_the_seed_decides():
    data = from_tensor(torch.arange(1000.0)[:, None] / 7, torch.arange(1000), name="t")
    splits = split(data, seed=3, validation=0.2, test=0.05)
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part) for part in parts] == [750, 200, 50]
    assert sorted(torch.cat([part.y for part in parts]).tolist()) == list(range(1000))
    for part in parts:
        assert torch.equal(part.x[:, 0], part.y / 7)
    assert splits.seed == 3
    assert torch.equal(split(data, seed=3, validation=0.2, test=0.05).train.x, splits.train.x)
    others = [split(data, seed=seed, validation=0.2, test=0.05).test.y for seed in (0, 4, 3 + 2**32, 2**64 - 1)]
    assert len({tuple(y.tolist()) for y in [*others, splits.test.y]}) == 5


def test_split_never_changes():
    # Pinned: a recorded seed must give the same rows with every version of the libraries.
    data = from_tensor(torch.rand(10, 1), torch.arange(10), name="t")
    splits = [split(data, seed=0, validation=0.3, test=0.2, rule=rule) for rule in (1, 2)]
    old, new = ([part.y.tolist() for part in (each.train, each.validation, each.test)] for each in splits)
    assert old == [[0, 7, 4, 5, 9], [3, 2, 1], [8, 6]]
    assert new == [[2, 7, 9, 6, 0], [4, 3, 5], [8, 1]]


def test_split_of_few_rows():
    x = torch.rand(3, 2)
    assert [len(part) for part in vars(split(from_tensor(x, name="t"))).values() if not isinstance(part, int)] == [1, 1, 1]
    with pytest.raises(BadInputError, match=r"t has 2 rows, and .* leaves none to train on"):
        split(from_tensor(x[:2], name="t"))


def test_rows_are_not_drawn_from_the_stream_that_people_make_data_of():
    """numpy's default generator of the same seed: the least numbers of it were the test rows.

    Uniform numbers in an order that knows nothing of them have a correlation with their places of at most .1 in 10000 draws,
    but for one time in 1e23.
    """
    x = torch.from_numpy(np.random.default_rng(0).uniform(size=(10_000, 1)))
    data = from_tensor(x, name="t")
    places = split(data, seed=0, validation=0, test=0).train.x[:, 0]
    assert torch.corrcoef(torch.stack([places, torch.arange(10_000.0)]))[0, 1].abs() < 0.1
    old = split(data, seed=0, validation=0, test=0, rule=1).train.x[:, 0]
    assert torch.corrcoef(torch.stack([old, torch.arange(10_000.0)]))[0, 1] > 0.99  # what runs before rule 2 have


def test_a_fraction_of_nothing_takes_the_training_rows():
    data = from_tensor(torch.arange(8.0)[:, None] + 0.5, response=torch.arange(8.0), name="t")
    splits = split(data, validation=0, test=0.25)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 6, 2)
    assert splits.validation.x.equal(splits.train.x)
    for part in (splits.train, splits.validation, splits.test):
        assert part.response.equal(part.x - 0.5)
    assert len(split(data, validation=0, test=0).train) == 8


def test_responses():
    x = torch.rand(3, 2)
    assert from_tensor(x, name="t").response is None
    one = from_tensor(x, response=torch.tensor([1, 2, 3]), name="t")
    assert (one.response.tolist(), one.responses) == ([[1.0], [2.0], [3.0]], ("response",))
    two = from_tensor(x, response=np.arange(6.0).reshape(3, 2), name="t")
    assert two.responses == ("response_1", "response_2")
    assert len({one.digest, two.digest, from_tensor(x, name="t").digest}) == 3
    with pytest.warns(DataWarning, match="the response response is always 3"):
        from_tensor(x, response=torch.full((3,), 3.0), name="t")
    with pytest.raises(BadInputError, match=r"the response of the tensor is nan in row 2 \(1 such\)"):
        from_tensor(x, response=torch.tensor([1, float("nan"), 3]), name="t")
    with pytest.raises(BadInputError, match=r"has shape \(4,\) .* for 3 rows"):
        from_tensor(x, response=torch.ones(4), name="t")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": -0.1}, "the validation fraction is -0.1"),
        ({"test": 1.0}, "the test fraction is 1.0"),
        ({"test": float("nan")}, "the test fraction is nan"),
        ({"validation": 0.5, "test": 0.5}, "leaves none to train on"),
        ({"seed": -1}, "the split seed is -1"),
    ],
)
def test_bad_splits(options, message):
    with pytest.raises(BadInputError, match=message):
        split(load("digits"), **options)


# Names and paths


def save(path):
    np.save(path, np.random.default_rng(0).random((4, 3)))
    return path


def test_the_source_loads_the_same_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a b é.npy")
    data = load("a b é.npy")
    assert data.name == "a b é"
    monkeypatch.chdir("/")
    again = load(data.source)
    assert again.digest == data.digest
    assert again.source == data.source


def test_a_path_can_have_the_name_of_a_bundled_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    assert load("digits").source == "digits"
    with pytest.raises(BadInputError, match="neither images"):
        load("./digits")
    with pytest.raises(BadInputError, match="neither images"):
        load(Path("digits"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "did you mean 'digits'"),
        ("MNIST", "no file, folder or data set 'MNIST'"),
        ("nothing/here.npz", "no file, folder or data set"),
        ("nul\0.npz", "no file, folder or data set"),
        ("~no_such_user_at_all/x.npz", "no file, folder or data set"),
        ("n" * 5000, "cannot be read: File name too long"),
        (os.devnull, "neither a file nor a folder"),
    ],
)
def test_nothing_there(spec, message):
    with pytest.raises(BadInputError, match=message) as caught:
        load(spec)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "near"), [(".npx", "'.np"), (".parq", "'.parquet'"), (".xyz", ".csv .npy .npz .parquet .txt"), ("", ".csv")]
)
def test_unknown_suffix(tmp_path, suffix, near):
    path = tmp_path / f"data{suffix}"
    path.write_text("1,2\n")
    with pytest.raises(BadInputError, match=f"is of no known kind.*{re.escape(near)}"):
        load(path)


CONTENTS = {
    "an empty file": b"",
    "text": b"hello there\n",
    "an HTML page": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
    "a pickle": b"\x80\x04\x95\x0b\x00",
    "gzip": b"\x1f\x8b\x08\x00\x00",
    "something else": b"\x00\x01\x02",
}


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet", ".NPZ", ".csv"])
@pytest.mark.parametrize("kind", CONTENTS)
def test_a_file_that_is_something_else(tmp_path, suffix, kind):
    path = tmp_path / f"data{suffix}"
    path.write_bytes(CONTENTS[kind])
    own = suffix == ".csv" and kind in ("text", "something else")
    with pytest.raises(BadInputError, match="header and no rows|is not a number|line" if own else f"looks like {kind}"):
        load(path)


def test_an_unreadable_file(tmp_path, monkeypatch):
    path = save(tmp_path / "x.npy")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadInputError, match=r"x\.npy' cannot be read: Permission denied"):
        load(path)


def test_options_without_meaning_are_refused(tmp_path):
    path = save(tmp_path / "x.npy")
    table = tmp_path / "x.csv"
    table.write_text("1,2\n3,4\n")
    for spec, options in (
        (path, {"label": "y"}),
        (path, {"array": "x"}),
        (table, {"array": "x"}),
        ("digits", {"label": "y"}),
        (tmp_path, {"array": "x"}),
    ):
        (name,) = options
        with pytest.raises(BadInputError, match=f"{name}='.' has no meaning"):
            load(spec, **options)


# MNIST


@pytest.fixture
def openml(monkeypatch, tmp_path):
    """scikit-learn's client, answering with a stand-in for MNIST."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (70_000, 784)), rng.integers(0, 10, 70_000).astype(str).astype(object)
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "cache"))
    calls = []

    def fetch(name, *, version, return_X_y, as_frame, parser, data_home):
        calls.append((name, version, data_home))
        assert (return_X_y, as_frame) == (True, False)
        return x, y

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    return x, y, calls


def test_mnist_keeps_its_own_test_set(openml, tmp_path):
    x, y, calls = openml
    data = load("mnist")
    assert calls == [("mnist_784", 1, tmp_path / "cache")]
    assert (len(data), len(data.test), data.shape, data.levels, data.validation) == (60_000, 10_000, (1, 28, 28), 255, None)
    splits = split(data, validation=0.1, test=0.7)  # no effect on a test set that is given
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (54_000, 6_000, 10_000)
    assert torch.equal(splits.test.x.reshape(-1, 784), torch.tensor(x[60_000:]).float())
    assert splits.test.y.tolist() == [int(label) for label in y[60_000:]]
    assert splits.train.test is None


@pytest.mark.parametrize("error", [OSError("<urlopen error\nno route>"), ValueError("md5 checksum"), ConnectionResetError("reset")])
def test_mnist_without_network(monkeypatch, error):
    def fetch(*args, **kwargs):
        raise error

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    with pytest.raises(BadInputError, match=r"could not be fetched from OpenML .*four IDX files") as caught:
        load("mnist")
    assert "\n" not in str(caught.value)


def test_mnist_of_another_shape(openml, monkeypatch):
    x, y, _ = openml
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *args, **kwargs: (x[:100], y[:100]))
    with pytest.raises(BadInputError, match=r"shape \(100, 784\)"):
        load("mnist")


def test_importing_it_loads_nothing_heavy():
    code = "import sys, reparam.data; print([m for m in ('sklearn', 'pandas', 'PIL', 'pyarrow', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_loading_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("digits")


def test_an_empty_name_is_not_the_current_folder():
    with pytest.raises(BadInputError, match="data is ''"):
        load("")


# Names of labels.


def test_labels_have_names_and_places(tmp_path):
    numbers = from_tensor(torch.zeros(4, 2) + torch.arange(4.0)[:, None] / 3, torch.tensor([7, -3, 7, 10]), name="numbers")
    assert numbers.classes == ("-3", "7", "10")
    assert numbers.y.tolist() == [7, -3, 7, 10]
    assert numbers.places.tolist() == [1, 0, 1, 2]
    (tmp_path / "kinds.csv").write_text("a,kind\n0.5,oak\n1.5,ash\n2.5,oak\n")
    texts = load(tmp_path / "kinds.csv", label="kind")
    assert texts.classes == ("ash", "oak")
    assert texts.y.tolist() == texts.places.tolist() == [1, 0, 1]
    part = split(load("digits")).test
    assert part.classes == tuple("0123456789")
    assert torch.equal(part.places, part.y)


@pytest.mark.parametrize("far", [np.array([1e19, 0, 1]), np.array([2**63 + 5, 0, 1], np.uint64)], ids=["floats", "integers"])
def test_labels_that_no_integer_holds_are_refused(far):
    with pytest.raises(BadInputError, match=r"labels of the tensor go to .*e\+\d+: whole numbers below 2\^63 are wanted"):
        from_tensor(torch.rand(3, 2), far, name="far")


def test_places_want_labels():
    with pytest.raises(BadInputError, match="nameless has no labels: name their column or array"):
        _ = from_tensor(torch.rand(3, 2), name="nameless").places


def test_a_codec_is_one_that_is_known():
    with pytest.raises(BadInputError, match=r"a codec of kind 'os\.system' is not known: this version knows text, audio"):
        codec_of({"kind": "os.system"})


@pytest.mark.parametrize(("name", "shape", "rows", "classes"), [("moons", (2,), 2000, 2), ("breast_cancer", (30,), 569, 2)])
def test_tables_at_hand(name, shape, rows, classes):
    data = load(name)
    assert (len(data), tuple(data.shape), data.values, len(data.classes)) == (rows, shape, "real", classes)
    assert data.digest == load(name).digest


# Data sets of torch.


class Items:
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def test_from_a_dataset_of_torch():
    x = torch.rand(6, 1, 4, 4)
    assert torch.equal(from_dataset(Items(*x), name="images").x, x)
    pairs = from_dataset(Items(*((one, f"kind {i % 2}") for i, one in enumerate(x.numpy()))), name="pairs")
    assert pairs.classes == ("kind 0", "kind 1")
    assert torch.equal(pairs.x, x)
    counted = from_dataset(Items(*((one, i) for i, one in enumerate(torch.randint(0, 4, (6, 3))))), name="counts", levels=5)
    assert (counted.values, counted.levels, counted.y.tolist()) == ("counts", 5, list(range(6)))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ((), "is empty: at least one item"),
        ((torch.zeros(2), torch.zeros(3)), r"item 1 of mine has shape \(3,\), the first \(2,\)"),
        (("text",), "item 0 of mine is of str: a tensor or an array is wanted"),
        (((torch.zeros(2), 1, 2),), "item 0 of mine has 3 parts"),
        (((torch.ones(2), 1), torch.zeros(2)), "1 of the 2 items of mine have labels"),
        ((torch.tensor([0.0, float("nan")]), torch.zeros(2)), "holds nan at index"),
        ((np.array([None, 1]),), "item 0 of mine has no numbers"),
    ],
)
def test_datasets_of_torch_that_cannot_be_used(items, message):
    with pytest.raises(BadInputError, match=message):
        from_dataset(Items(*items), name="mine")


def test_a_dataset_of_torch_needs_a_length():
    with pytest.raises(BadInputError, match="mine has no length"):
        from_dataset(iter([torch.zeros(2)]), name="mine")


def test_from_arrays():
    data = from_tensor(np.array([[0.5, 1.0], [2.0, 3.0]]), np.array(["b", "a"]), name="arrays")
    assert data.classes == ("a", "b")
    assert data.y.tolist() == [1, 0]
