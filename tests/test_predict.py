"""`reparam predict`, and training and evaluating Bayesian networks from the command line."""

import csv
import json

import numpy as np
import pytest

from reparam import models
from reparam.noise import Fresh

TINY = ["--hidden", "8", "--epochs", "3", "--passes", "2", "--batch_size", "32", "--annealing", "4", "--importance_samples", "5"]
TINY += ["--threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table with a response, and a run on it and on one with two classes."""
    from reparam.cli import main

    made = tmp_path_factory.mktemp("predict")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 2))
    y = 3 * x[:, 0] + 10 + 0.1 * rng.normal(size=120)
    names = np.where(x[:, 1] > 0, "up", "down")
    rows = [f"{a:.6f},{b:.6f},{c:.6f},{name}" for (a, b), c, name in zip(x, y, names, strict=True)]
    (made / "all.csv").write_text("a,b,height,way\n" + "\n".join(rows) + "\n")
    for name, kept in {"reals": [0, 1, 2], "classes": [0, 1, 3], "new": [0, 1], "turned": [1, 0]}.items():
        table = [line.split(",") for line in (made / "all.csv").read_text().splitlines()]
        (made / f"{name}.csv").write_text("\n".join(",".join(row[i] for i in kept) for row in table) + "\n")
    np.savez(made / "new.npz", x=x[:7].astype(np.float32))
    for name, flags in {"reals": ["--response", "height"], "classes": ["--label", "way"]}.items():
        code = main(["train", "bnn", "--data", str(made / f"{name}.csv"), *flags, "--out", str(made / name), *TINY])
        assert code == 0
    return made


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_table_of_the_test_set(cli, folder):
    path = folder / "out.csv"
    assert cli("predict", folder / "reals", "--output", path, "--draws", "2") == (0, f"{path}\n", "")
    rows = table(path)
    names = [f"height_{part}" for part in ("mean", "epistemic", "aleatoric", "low", "high", "draw_0", "draw_1")]
    assert list(rows[0]) == ["row", "height", *names]
    whole = table(folder / "reals.csv")
    assert len(rows) == 12
    for row in rows:
        assert float(row["height"]) == pytest.approx(float(whole[int(row["row"])]["height"]), rel=1e-5)
        assert float(row["height_low"]) < float(row["height_mean"]) < float(row["height_high"])
        assert float(row["height_epistemic"]) > 0


def test_data_without_the_response_are_predicted_as_python_does(cli, folder):
    path = folder / "new_out.csv"
    assert cli("predict", folder / "reals", "--data", folder / "new.csv", "--output", path, "--samples", "20")[0] == 0
    rows = table(path)
    assert [row["row"] for row in rows] == [str(i) for i in range(120)]
    assert "height" not in rows[0]
    import torch

    x = torch.tensor([[float(row["a"]), float(row["b"])] for row in table(folder / "new.csv")])
    wanted = models.load(folder / "reals").predict(x, 20, Fresh(torch.Generator().manual_seed(0))).mean[:, 0]
    torch.testing.assert_close(torch.tensor([float(row["height_mean"]) for row in rows]), wanted.float(), rtol=1e-5, atol=1e-5)


def test_the_response_of_other_data_comes_along(cli, folder):
    path = folder / "more_out.csv"
    assert cli("predict", folder / "reals", "--data", folder / "reals.csv", "--output", path, "--samples", "3")[0] == 0
    assert "height" in table(path)[0]


def test_arrays(cli, folder):
    path = folder / "out.npz"
    assert cli("predict", folder / "reals", "--data", folder / "new.npz", "--output", path, "--draws", "3")[0] == 0
    with np.load(path) as found:
        shapes = {name: found[name].shape for name in found.files}
    assert shapes == {"row": (7,), "draws": (3, 7, 1), **dict.fromkeys(["mean", "epistemic", "aleatoric", "low", "high"], (7, 1))}


@pytest.mark.parametrize("run", ["reals", "classes"])
def test_many_data_are_predicted_a_few_at_a_time(cli, folder, monkeypatch, run):
    found = []
    for chunk in (2**22, 50):
        monkeypatch.setattr("reparam.cli.predict._CHUNK", chunk)
        path = folder / f"{chunk}.npz"
        words = ["--data", folder / "new.csv", "--samples", "10", "--draws", "2", "--output", path]
        assert cli("predict", folder / run, *words)[0] == 0
        with np.load(path) as arrays:
            found.append(dict(arrays))
    whole, parts = found
    assert whole.keys() == parts.keys()
    for name in ("mean", "low", "epistemic") if run == "reals" else ("probability", "epistemic"):
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-4, atol=1e-5)
    assert parts["draws"].shape == whole["draws"].shape
    if run == "reals":  # the noise goes on from one part to the next
        assert len(np.unique((parts["draws"][0] - parts["mean"]).round(5))) > 115


def test_classes(cli, folder):
    path = folder / "classes_out.csv"
    assert cli("predict", folder / "classes", "--output", path, "--draws", "1")[0] == 0
    rows = table(path)
    parts = ["probability_down", "probability_up", "epistemic", "aleatoric", "draw_0"]
    assert list(rows[0]) == ["row", "label", "predicted", *parts]
    assert {row["draw_0"] for row in rows} <= {"up", "down"}
    for row in rows:
        assert float(row["probability_down"]) + float(row["probability_up"]) == pytest.approx(1, abs=1e-4)
        assert row["predicted"] == max(("down", "up"), key=lambda name: float(row[f"probability_{name}"]))


def test_the_same_seed_gives_the_same_predictions(cli, folder):
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        cli("predict", folder / "reals", "--output", folder / f"{name}.npz", "--seed", seed)
    a, b, c = (np.load(folder / f"{name}.npz")["mean"] for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_evaluation(cli, folder):
    code, out, _ = cli("evaluate", folder / "reals", "--json", "--importance_samples", "5")
    found = json.loads(out)
    assert code == 0
    assert (found["rows"], found["draws"]) == (12, 5)
    assert set(found["rmse"]) == {"height"}
    assert "accuracy" in cli("evaluate", folder / "classes", "--importance_samples", "5")[1]
    assert "RMSE" in cli("evaluate", folder / "reals", "--data", folder / "reals.csv", "--importance_samples", "5")[1]


def test_what_is_refused(refused, folder):
    run = folder / "reals"
    refused(2, r"the columns of turned are b, a, and .* was trained on a, b", "predict", run, "--data", folder / "turned.csv")
    refused(2, r"--output .*\.txt: give a name that ends in \.csv or \.npz$", "predict", run, "--output", folder / "x.txt")
    refused(2, r"samples is 0: give at least 1$", "predict", run, "--samples", "0")
    refused(2, r"would replace the data that are read", "predict", run, "--output", folder / "reals.csv")
    refused(2, r"new has no height, which this model predicts", "evaluate", run, "--data", folder / "new.csv")
    refused(2, r"which does not sample$", "sample", run)
    (folder / "gap.csv").write_text("a,b,height\n1,2,3\n1,2,\n")
    refused(2, r"gap.csv' line 3, column 'height': .*; or leave that column out", "predict", run, "--data", folder / "gap.csv")
    np.savez(folder / "wide.npz", x=np.zeros((3, 5), np.float32) + np.arange(5))
    refused(2, r"a datum of wide is 5, and this model takes 2 numbers", "predict", run, "--data", folder / "wide.npz")


def test_columns_of_the_same_name_are_refused_not_lost(cli, refused, folder):
    text = (folder / "reals.csv").read_text()
    (folder / "row.csv").write_text(text.replace("height", "row", 1))
    run = folder / "named_row"
    assert cli("train", "bnn", "--data", folder / "row.csv", "--response", "row", "--out", run, *TINY)[0] == 0
    refused(2, r"two columns of the table would be called 'row': give --output", "predict", run, "--output", folder / "x.csv")
    assert cli("predict", run, "--output", folder / "x.npz")[0] == 0
