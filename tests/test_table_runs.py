"""Runs whose data are tables with gaps: samples and fillings are tables too, in words, and other data are read as the run's."""

import numpy as np
import pandas as pd
import pytest
import torch

from reparam.cli import main
from reparam.cli.commands import impute as command
from reparam.cli.impute import OPTIONS
from reparam.data import load
from reparam.models.graphical import Config, Graphical
from reparam.models.trained import DataOptions, record
from reparam.training import Run, Training, fit

ROWS = 60
GAPS = "kind,size,length\ncat,,1.50\n?,big,9.0\n,small,\ndog,big,\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Cats are small and dogs are big, and dogs are longer; about one value in ten is missing."""
    folder = tmp_path_factory.mktemp("tables")
    random = np.random.default_rng(0)
    dog = np.arange(ROWS) % 2
    frame = pd.DataFrame(
        {
            "length": np.round(1.5 + 7.5 * dog + 0.3 * random.normal(size=ROWS), 3),
            "kind": np.where(dog, "dog", "cat").astype(object),
            "size": np.where(dog, "big", "small").astype(object),
        }
    )
    frame = frame.mask(random.random(frame.shape) < 0.1)
    frame.to_csv(folder / "table.csv", index=False)
    options = DataOptions(data=str(folder / "table.csv"), gaps="keep")
    data, splits = options.load()
    torch.manual_seed(0)
    model = Graphical.for_data(Config(classes=2), splits.train)
    training = Training(epochs=20, batch_size=16, learning_rate=0.1, threads=1)
    with Run.create(folder / "run", record("graphical", model, training, options, data, splits)) as made:
        fit(model, model.inputs(splits.train), model.inputs(splits.validation), training, made, progress=False)
    return str(folder / "run")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gaps.csv").write_text(GAPS)
    return tmp_path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_samples_are_a_table(run, here, suffix):
    assert main(["sample", run, "--n", "50", "--output", f"new{suffix}"]) == 0
    frame = pd.read_csv("new.csv") if suffix == ".csv" else pd.read_parquet("new.parquet")
    assert list(frame) == ["length", "kind", "size"]
    assert len(frame) == 50
    assert set(frame["kind"]) == {"cat", "dog"}
    assert set(frame["size"]) == {"big", "small"}
    assert np.isfinite(frame["length"]).all()
    again = load(f"new{suffix}", gaps="keep")
    assert again.codec.categories == {"kind": ("cat", "dog"), "size": ("big", "small")}


def test_samples_are_csv_unless_told_otherwise(run, here):
    assert main(["sample", run, "--n", "3"]) == 0
    assert len((here / "samples.csv").read_text().splitlines()) == 4
    assert main(["sample", run, "--n", "3", "--output", "codes.npz"]) == 0
    assert set(np.load("codes.npz")["x"][:, 1]) <= {0.0, 1.0}


def test_a_table_keeps_all_that_it_had(run, here, capsys):
    """What is filled in goes with the rest of its row: dogs and cats are 25 standard deviations apart."""
    assert main(["impute", run, "--data", "gaps.csv"]) == 0
    assert capsys.readouterr().out == "imputed.csv: 5 of 12 values were missing\n"
    lines = (here / "imputed.csv").read_text().splitlines()
    assert lines[:3] == ["kind,size,length", "cat,small,1.50", "dog,big,9.0"]
    assert lines[3].startswith("cat,small,")
    assert lines[4].startswith("dog,big,")
    assert abs(float(lines[3].split(",")[2]) - 1.5) < 3
    assert abs(float(lines[4].split(",")[2]) - 9.0) < 3


def test_columns_that_are_not_there_are_filled(run, here):
    (here / "some.csv").write_text("kind\ncat\ndog\n")
    assert main(["impute", run, "--data", "some.csv", "--output", "full.csv"]) == 0
    lines = [line.split(",") for line in (here / "full.csv").read_text().splitlines()]
    assert lines[0] == ["kind", "length", "size"]
    assert [(line[0], line[2]) for line in lines[1:]] == [("cat", "small"), ("dog", "big")]
    assert float(lines[1][1]) < 5 < float(lines[2][1])


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".npy"])
def test_fillings_in_other_forms(run, here, suffix):
    assert main(["impute", run, "--data", "gaps.csv", "--output", f"full{suffix}"]) == 0
    if suffix == ".parquet":
        frame = pd.read_parquet("full.parquet")
        assert frame["kind"].tolist() == ["cat", "dog", "cat", "dog"]
        assert frame["length"].tolist()[:2] == [1.5, 9.0]
        return
    found = np.load(f"full{suffix}")
    x = found if suffix == ".npy" else found["x"]
    assert x[:, 1].tolist() == [0, 1, 0, 1]
    if suffix == ".npz":
        assert found["known"].sum() == 7


def test_several_fillings(run, here):
    assert main(["impute", run, "--data", "gaps.csv", "--n", "3", "--output", "full.npz"]) == 0
    x = torch.from_numpy(np.load("full.npz")["x"])
    assert x.shape == (3, 4, 3)
    assert len(set(x[:, 2, 0].tolist())) == 3  # drawn anew
    assert x[:, 0, 0].tolist() == [1.5] * 3


def test_parquet_with_gaps(run, here):
    pd.DataFrame({"kind": ["cat", None], "length": [None, 9.0]}).to_parquet("gaps.parquet")
    assert main(["impute", run, "--data", "gaps.parquet"]) == 0
    frame = pd.read_csv("imputed.csv")
    assert frame["kind"].tolist() == ["cat", "dog"]
    assert frame["size"].tolist() == ["small", "big"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "gaps.csv", "--steps", "4"), "steps is 4, and the model of .* fills gaps without any: leave --steps out"),
        (("--data", "gaps.csv", "--output", "gaps.csv"), "would replace the data"),
        (("--data", "gaps.csv", "--n", "2", "--output", "x.csv"), "ends in .npz or .npy"),
        (("--data", "gaps.csv", "--output", "x.png"), "ends in .csv or .parquet or .npz or .npy"),
        (("--data", "gaps.csv", "--label", "kind"), "label='kind' has no meaning"),
        (
            (
                "--data",
                "cow.csv",
            ),
            "line 3, column 'kind': 'cow' is none of the categories that the model knows.*'cat', 'dog'",
        ),
        (
            (
                "--data",
                "odd.csv",
            ),
            "a column 'weight', which the data of the model have not",
        ),
        (
            (
                "--data",
                "typo.csv",
            ),
            "a column 'knd', .*did you mean 'kind'",
        ),
        (
            (
                "--data",
                "text.csv",
            ),
            "line 2, column 'length': 'long' is not a number",
        ),
        (("--data", "digits"), "digits is no table"),
        ((), "the data are missing"),
    ],
)
def test_what_cannot_be_filled_in(run, here, refused, words, message):
    for name, text in {
        "cow": "kind\ncat\ncow\n",
        "odd": "kind,weight\ncat,1\n",
        "typo": "knd\ncat\n",
        "text": "length\nlong\n",
    }.items():
        (here / f"{name}.csv").write_text(text)
    refused(2, message, "impute", run, *words)


def test_other_data_in_any_order_are_evaluated(run, here, cli):
    (here / "other.csv").write_text("size,length,kind\nbig,9,dog\nsmall,1.5,\n")
    code, out, error = cli("evaluate", run, "--data", "other.csv")
    assert code == 0, error
    assert "On other.csv, 2 data" in out


def test_the_defaults_of_options_that_tables_have_not():
    from inspect import signature

    assert {name: signature(command).parameters[name].default for name in OPTIONS} == OPTIONS
