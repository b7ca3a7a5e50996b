"""`reparam impute`: what is known comes back letter by letter, what is missing is filled in, and bad files are refused by name."""

import numpy as np
import pytest
import torch

from reparam.cli import main
from reparam.data.gaps import load_with_gaps
from reparam.errors import BadInputError
from reparam.models.diffusion import Config, Diffusion
from reparam.models.trained import DataOptions, record
from reparam.training import Run, Training, fit

TABLE = "length,kind,width,height\n1.50,cat, 2,\n,dog,2.5,1e0\n1,cat,nan,?\n2,dog,1,1\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A diffusion model of a table of three columns and a label, trained for one epoch."""
    folder = tmp_path_factory.mktemp("impute")
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    rows = [f"{a:.4f},{'cat' if i % 2 else 'dog'},{b:.4f},{c:.4f}" for i, (a, b, c) in enumerate(x.tolist())]
    (folder / "table.csv").write_text("length,kind,width,height\n" + "\n".join(rows))
    options = DataOptions(data=str(folder / "table.csv"), label="kind")
    data, splits = options.load()
    torch.manual_seed(0)
    model = Diffusion.for_data(Config(hidden=(8,)), splits.train)
    training = Training(epochs=1, batch_size=8, threads=1)
    with Run.create(folder / "run", record("diffusion", model, training, options, data, splits)) as made:
        fit(model, model.inputs(splits.train), model.inputs(splits.validation), training, made, progress=False)
    return str(folder / "run")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gaps.csv").write_text(TABLE)
    return tmp_path


def impute(run, *words):
    return main(["impute", run, "--steps", "4", "--repeats", "2", *words])


def test_a_table_keeps_all_that_it_had(run, here, capsys):
    assert impute(run, "--data", "gaps.csv", "--label", "kind", "--output", "full.csv") == 0
    assert capsys.readouterr().out == "full.csv: 4 of 12 values were missing\n"
    before, after = (text.splitlines() for text in (TABLE, (here / "full.csv").read_text()))
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        for a, b in zip(old.split(","), new.split(","), strict=True):
            assert a == b if a not in ("", "nan", "?") else np.isfinite(float(b))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_have_nan_where_a_value_is_missing(run, here, suffix):
    x = np.array([[1.0, np.nan, 2.0], [3.0, 4.0, 5.0]])
    np.save("gaps.npy", x)
    assert impute(run, "--data", "gaps.npy", "--output", f"full{suffix}") == 0
    found = np.load(f"full{suffix}")
    made = found["x"] if suffix == ".npz" else found
    assert np.isfinite(made).all()
    assert (made[~np.isnan(x)] == x[~np.isnan(x)]).all()
    if suffix == ".npz":
        assert (found["known"] == ~np.isnan(x)).all()


def test_several_fillings_differ_where_something_is_missing(run, here):
    assert impute(run, "--data", "gaps.csv", "--label", "kind", "--n", "5", "--output", "full.npz") == 0
    found = np.load("full.npz")
    assert found["x"].shape == (5, 4, 3)
    assert ((found["x"].std(0) > 0) == ~found["known"]).all()


def test_the_labels_are_told_to_the_model(run, here, monkeypatch):
    told, inside = [], Diffusion.impute
    monkeypatch.setattr(Diffusion, "impute", lambda *a, label=None, **o: told.append(label) or inside(*a, label=label, **o))
    assert impute(run, "--data", "gaps.csv", "--label", "kind", "--output", "full.csv") == 0
    (here / "bare.csv").write_text("length,width,height\n1.5,2,\n")
    assert impute(run, "--data", "bare.csv", "--output", "full.csv") == 0
    cats, dogs = 0, 1
    assert [None if label is None else label.tolist() for label in told] == [[cats, dogs, cats], None]


def test_the_same_seed_fills_the_same(run, here):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert impute(run, "--data", "gaps.csv", "--label", "kind", "--seed", str(seed), "--output", f"{name}.npy") == 0
    a, b, c = (np.load(f"{name}.npy") for name in "abc")
    assert (a == b).all()
    assert (a != c).any()


def test_nothing_missing_is_fine(run, here):
    np.save("whole.npy", np.ones((2, 3)))
    assert impute(run, "--data", "whole.npy", "--output", "same.npy") == 0
    assert (np.load("same.npy") == 1).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the data are missing: reparam impute RUN --data FILE"),
        (["--data", "none.csv"], "there is no file 'none.csv'"),
        (["--data", "gaps.parquet"], "data with gaps are read from a .npz, .npy or .csv file"),
        (["--data", "gaps.csv"], "column 'kind': 'cat' is not a number"),
        (["--data", "gaps.csv", "--label", "sort"], "no column 'sort' for the labels"),
        (["--data", "eel.csv", "--label", "kind"], "label 'eel' is none that this model knows: give one of cat, dog"),
        (["--data", "unknown.csv", "--label", "kind"], "line 2, column 'kind': the label is missing"),
        (["--data", "narrow.npy"], "a datum of narrow is 2, and this model takes 3"),
        (["--data", "infinite.npy"], "holds inf at index (0, 1)"),
        (["--data", "gaps.csv", "--label", "kind", "--output", "full.png"], "give a name that ends in .csv or .npz or .npy"),
        (["--data", "gaps.csv", "--label", "kind", "--output", "gaps.csv"], "would replace the data that are read"),
        (["--data", "gaps.csv", "--label", "kind", "--n", "0"], "n is 0: give at least 1"),
        (["--data", "gaps.csv", "--label", "kind", "--steps", "1"], "steps=1: give a whole number, at least 2"),
        (["--data", "gaps.csv", "--label", "kind", "--repeats", "0"], "repeats=0: give a whole number, at least 1"),
        (["--data", "gaps.csv", "--label", "kind", "--guidance", "-1"], "guidance=-1.0: give a finite number"),
    ],
)
def test_bad_input(run, here, capsys, words, message):
    np.save("narrow.npy", np.full((2, 2), np.nan))
    np.save("infinite.npy", np.array([[1.0, np.inf, 2.0]]))
    (here / "eel.csv").write_text(TABLE.replace("cat", "eel"))
    (here / "unknown.csv").write_text(TABLE.replace("cat", ""))
    assert impute(run, *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_images_and_masks_go_the_same_way(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3))  # channels last
    x[1, 2, 3, 0] = np.nan
    np.savez(tmp_path / "pictures.npz", images=x, y=np.array([3, 4]))
    data, mask = load_with_gaps(tmp_path / "pictures.npz")
    assert data.shape == mask.shape[1:] == (3, 4, 5)
    assert (~mask).nonzero().tolist() == [[1, 0, 2, 3]]
    assert data.classes == ("3", "4")
    np.save(tmp_path / "texts.npy", np.array([["a", "b"]]))
    with pytest.raises(BadInputError, match="dtype"):
        load_with_gaps(tmp_path / "texts.npy")


def test_columns_in_another_order_are_refused(run, here, capsys):
    """A width is not filled in for a length, nor read as one."""
    (here / "turned.csv").write_text("width,kind,length,height\n2,cat,,1\n")
    assert impute(run, "--data", "turned.csv", "--label", "kind") == 2
    message = capsys.readouterr().err
    assert "the columns of turned are width, length, height" in message
    assert "was trained on length, width, height: put them in that order" in message
    (here / "whole.csv").write_text("width,kind,length,height\n2,cat,1,1\n1,dog,0,0\n")
    assert main(["evaluate", run, "--data", "whole.csv", "--label", "kind", "--importance_samples", "2"]) == 2
    assert "put them in that order" in capsys.readouterr().err


def test_samples_of_a_table_are_a_table(run, here):
    assert main(["sample", run, "--n", "5", "--steps", "4", "--output", "new.csv"]) == 0
    lines = (here / "new.csv").read_text().splitlines()
    assert lines[0] == "length,width,height,kind"
    assert np.isfinite(np.loadtxt(lines[1:], delimiter=",", usecols=(0, 1, 2))).all()
    assert {line.split(",")[3] for line in lines[1:]} <= {"cat", "dog"}
    assert len(lines) == 6


def test_samples_come_with_their_labels(run, here):
    for words, kinds in (([], {"cat", "dog"}), (["--label", "cat"], {"cat"})):
        assert main(["sample", run, "--n", "600", "--steps", "2", "--output", "new.npz", *words]) == 0
        with np.load(here / "new.npz") as found:
            assert found["x"].shape == (600, 3)
            assert set(found["label"]) == kinds
