"""The commands that look at a run: what they print and write, and what they refuse."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reparam.cli import main
from reparam.data import load
from reparam.models import MODELS
from reparam.models.trained import data_of, model_of
from reparam.training import Run

TINY = [
    "train",
    "vae",
    "--hidden",
    "16",
    "--latent_dim",
    "2",
    "--importance_samples",
    "2",
    "--threads",
    "1",
    "--device",
    "cpu",
    "--epochs",
    "1",
]


def trained(directory, *words):
    assert main([*TINY, "--out", str(directory), *map(str, words)]) == 0
    return directory


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("digits") / "run")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A run on real vectors with labels, and the file it was trained on."""
    folder = tmp_path_factory.mktemp("table")
    x = np.random.default_rng(0).normal(size=(80, 3)).round(3)
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(kind=np.where(x[:, 0] > 0, "up", "down"))
    frame.to_csv(folder / "t.csv", index=False)
    return trained(folder / "run", "--data", folder / "t.csv", "--label", "kind"), folder / "t.csv"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def evaluation(cli, *words):
    code, out, error = cli("evaluate", *words, "--json")
    assert code == 0, error
    return json.loads(out)


def test_evaluation_adds_up_and_is_repeatable(cli, digits):
    found = evaluation(cli, digits, "--importance_samples", 5)
    assert found["elbo"] == pytest.approx(found["reconstruction"] - found["kl"], abs=1e-3)
    assert (found["rows"], found["importance_samples"], found["latent_dim"]) == (180, 5, 2)
    assert evaluation(cli, digits, "--importance_samples", 5) == found
    assert evaluation(cli, digits, "--importance_samples", 5, "--seed", 1)["nll"] != found["nll"]
    assert found["nll_error"] > 0


def test_parts_of_the_runs_data(cli, digits):
    rows = {
        part: evaluation(cli, digits, "--part", part, "--importance_samples", 1)["rows"] for part in ("train", "validation", "test")
    }
    assert rows == {"train": 1437, "validation": 180, "test": 180}


def test_evaluation_in_words(cli, digits, table):
    code, out, _ = cli("evaluate", digits, "--importance_samples", 3, "--checkpoint", "last")
    assert code == 0
    assert out.startswith("On the test set, 180 data, nats per datum:\n  ELBO            -")
    assert "(3 importance samples)\n  active latents  " in out
    np.save("one.npy", np.zeros((1, 3)))
    out = cli("evaluate", table[0], "--data", "one.npy", "--importance_samples", 3)[1]
    assert "On one.npy, 1 data" in out
    assert "±" not in out
    assert evaluation(cli, table[0], "--data", "one.npy")["nll_error"] is None


def test_samples(cli, digits):
    for name in ("s.npz", "s.npy", "s.png"):
        assert cli("sample", digits, "--output", name, "--n", 5) == (0, f"{name}\n", "")
    x = np.load("s.npz")["x"]
    assert x.shape == (5, 1, 8, 8)
    assert x.min() >= 0
    assert x.max() <= 16
    assert (x != x.round()).any()
    np.testing.assert_array_equal(np.load("s.npy"), x)
    picture = Image.open("s.png")
    assert picture.size[0] > 3 * 8
    assert picture.getpixel((0, 0))[0] == pytest.approx(255 * x[0, 0, 0, 0] / 16, abs=1)
    cli("sample", digits, "--output", "s.npy", "--n", 5, "--seed", 1)
    assert (np.load("s.npy") != x).any()
    cli("sample", digits, "--output", "s.npy", "--n", 5, "--noisy")
    noisy = np.load("s.npy")
    assert (noisy == noisy.round()).all()


def test_many_samples_come_in_chunks_from_one_stream(cli, digits):
    cli("sample", digits, "--output", "many.npy", "--n", 1100)
    many = np.load("many.npy")
    assert many.shape == (1100, 1, 8, 8)
    assert len(np.unique(many.reshape(1100, -1), axis=0)) == 1100


def test_reconstructions_are_of_the_first_rows(cli, digits):
    assert cli("reconstruct", digits, "--output", "r.npz", "--n", 4)[0] == 0
    made = np.load("r.npz")
    x = data_of(Run.open(digits)).test.x[:4]
    np.testing.assert_array_equal(made["x"], x)
    np.testing.assert_allclose(made["reconstruction"], model_of(Run.open(digits)).reconstruct(x), rtol=1e-5)
    cli("reconstruct", digits, "--output", "r.npy", "--n", 4)
    np.testing.assert_array_equal(np.load("r.npy"), made["reconstruction"])
    cli("reconstruct", digits, "--output", "r.png", "--n", 4)
    first = np.asarray(Image.open("r.png"))[..., 0]
    assert first[0, 0] == pytest.approx(255 * made["x"][0, 0, 0, 0] / 16, abs=1)  # the original, then what was made of it
    assert len(np.load("r.npy")) == 4
    assert cli("reconstruct", digits, "--output", "r.npy", "--n", 1000)[0] == 0
    assert len(np.load("r.npy")) == 180


@pytest.mark.parametrize("name", ["c.npz", "c.parquet"])
def test_codes_of_the_runs_own_data(cli, digits, name):
    assert cli("encode", digits, "--output", name) == (0, f"{name}\n", "")
    splits, model = data_of(Run.open(digits)), model_of(Run.open(digits))
    q = model.encode(splits.validation.x)
    if name.endswith("npz"):
        codes = np.load(name)
        mean, scale, row, part, label = (codes[key] for key in ("mean", "scale", "row", "part", "label"))
    else:
        codes = pd.read_parquet(name)
        assert list(codes) == ["mean_0", "mean_1", "scale_0", "scale_1", "row", "part", "label"]
        mean, scale = codes[["mean_0", "mean_1"]].to_numpy(), codes[["scale_0", "scale_1"]].to_numpy()
        row, part, label = (codes[key].to_numpy() for key in ("row", "part", "label"))
    assert {key: int((part == key).sum()) for key in set(part)} == {"train": 1437, "validation": 180, "test": 180}
    held = part == "validation"
    np.testing.assert_allclose(mean[held], q.mean.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scale[held], q.stddev.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(label[held], splits.validation.y)
    np.testing.assert_array_equal(label, load("digits").y.numpy()[row])
    assert sorted(row) == list(range(1797))


def test_codes_of_other_data(cli, table):
    run, source = table
    assert cli("encode", run, "--output", "all.npz", "--part", "test")[0] == 0
    assert set(np.load("all.npz")["part"]) == {"test"}
    shutil.copy(source, "copy.csv")
    assert cli("encode", run, "--output", "own.parquet", "--data", "copy.csv", "--label", "kind")[0] == 0
    codes = pd.read_parquet("own.parquet")
    assert len(codes) == 80
    assert set(codes["part"]) == {"data"}
    np.testing.assert_array_equal(codes["label"], pd.read_csv(source)["kind"].eq("up").astype(int))
    np.save("bare.npy", np.eye(4, 3))
    assert cli("encode", run, "--output", "bare.npz", "--data", "bare.npy")[0] == 0
    assert sorted(np.load("bare.npz")) == ["mean", "part", "row", "scale"]


def test_report_anew(cli, digits):
    page = digits / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert cli("report", digits) == (0, f"{page}\n", "")
    assert b"</html>" in page.read_bytes()
    assert len(page.read_bytes()) > len(before) // 2


def test_list(cli):
    code, out, _ = cli("list")
    assert code == 0
    for name, entry in MODELS.items():
        (line,) = [line for line in out.splitlines() if line.startswith(f"{name} ")]
        assert entry.data in line
        assert entry.expected in line
        assert f" {entry.seconds} " in line


@pytest.mark.parametrize("command", ["evaluate", "sample", "reconstruct", "encode", "report"])
def test_what_is_no_run(refused, tmp_path, command):
    refused(2, f"RUN is missing: reparam {command} RUN", command)
    refused(2, r"'b' is one argument too many", command, "a", "b")
    refused(3, "nowhere does not exist; give a directory that training made", command, "nowhere")
    refused(3, "does not exist", command, "a\0b")
    refused(3, "is not a run: it has no run.json", command, tmp_path)
    (tmp_path / "file").write_text("")
    refused(3, "is a file, not a run", command, tmp_path / "file")
    (tmp_path / "run.json").write_text("<html>")
    refused(3, "run.json", command, tmp_path)
    (tmp_path / "run.json").unlink()
    (tmp_path / "run.json").symlink_to("nothing")
    refused(3, "is not a run", command, tmp_path)
    assert not (tmp_path / "samples.png").exists()


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"model": {"name": "os.system", "config": {}}}, "is of a model 'os.system': this version knows vae"),
        ({"model": {"name": "vae", "config": {"latent_dim": "wide"}}}, "run.json does not describe a model"),
        ({"model": {"name": "vae", "config": {"layers": 3}}}, "run.json does not describe a model: .*layers"),
        ({"model": "vae"}, "run.json does not describe a model"),
        ({"model": {"name": ["vae"], "config": {}}}, "run.json does not describe a model"),
        ({"data": {"shape": [1, 8, 8]}}, "run.json does not"),
    ],
)
def test_a_record_that_was_tampered_with(refused, digits, tmp_path, change, pattern):
    run = shutil.copytree(digits, tmp_path / "run")
    (run / "run.json").write_text(json.dumps(Run.open(digits).record | change))
    refused(3, pattern, "sample", run)


def test_a_damaged_checkpoint(refused, digits, tmp_path):
    run = shutil.copytree(digits, tmp_path / "run")
    for file in run.glob("checkpoints/*/weights*"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    for command in ("evaluate", "sample", "report"):
        refused(3, "checkpoint|weights", command, run)


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["evaluate", "--importance_samples", "0"], "importance_samples is 0: give at least 1"),
        (["evaluate", "--part", "tset"], "part is 'tset': give one of test, validation, train"),
        (["evaluate", "--seed", "-1"], "seed is -1"),
        (["evaluate", "--array", "x"], "are of other data than the run's: name them with --data"),
        (["evaluate", "--data", "short.npy"], r"a datum of short is 3, and this model takes 1 x 8 x 8: give data of that shape"),
        (["evaluate", "--data", "large.npy"], r"large does not suit this model: .* 0\.\.16"),
        (["encode", "--data", "large.npy"], r"large does not suit this model"),
        (["reconstruct", "--data", "large.npy"], r"large does not suit this model"),
        (["evaluate", "--data", "nan.npy"], r"nan\.npy"),
        (["sample", "--n", "0"], "n is 0: give at least 1"),
        (["sample", "--n", "1000000000000"], "n is 1000000000000: that many do not fit into memory: give fewer"),
        (["sample", "--n", "99999999999999999999999"], "n is 9+: that many do not fit"),
        (["sample", "--n", "1e9"], "n is '1000000000.0': give a whole number"),
        (["sample", "--output", "s.jpg"], r"--output s.jpg: give a name that ends in .png or .npz or .npy"),
        (["sample", "--output", "folder.png"], "is a folder: give the name of a file"),
        (["sample", "--output", "a\0b.png"], "is no name of a file"),
        (["encode", "--output", "codes.csv"], "give a name that ends in .npz or .parquet"),
        (["encode", "--data", "short.npy", "--output", "short.npz"], "a datum of short is 3"),
        (["encode", "--data", "mine.npz", "--output", "./mine.npz"], "would replace the data that are read: give another name"),
        (["sample", "--checkpoint", "first"], "checkpoint is 'first': give one of best, last"),
    ],
)
def test_what_the_commands_refuse(refused, digits, tmp_path, words, pattern):
    np.save("short.npy", np.eye(4, 3))
    np.save("large.npy", np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8))
    np.save("nan.npy", np.full((4, 1, 8, 8), np.nan))
    np.savez("mine.npz", x=np.arange(256).reshape(4, 1, 8, 8))
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.iterdir())
    refused(2, pattern, words[0], digits, *words[1:])
    assert sorted(tmp_path.iterdir()) == before


def test_no_output_replaces_the_runs_data(refused, tmp_path, capsys):
    np.savez("data.npz", x=np.tile(np.eye(3), (20, 1)))
    trained("other", "--data", "data.npz")
    capsys.readouterr()
    before = (tmp_path / "data.npz").read_bytes()
    refused(2, "would replace the data that are read", "sample", "other", "--output", "data.npz")
    assert (tmp_path / "data.npz").read_bytes() == before


def test_outputs_are_replaced_whole(cli, refused, digits, tmp_path):
    for n in (3, 2):
        assert cli("sample", digits, "--output", "s.npy", "--n", n)[0] == 0
        assert len(np.load("s.npy")) == n
    refused(5, "No such file or directory", "sample", digits, "--output", "no/folder/s.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.npy"]


def test_other_data_may_have_labels(cli, table):
    run, source = table
    shutil.copy(source, "labelled.csv")
    Path("renamed.csv").write_text(Path(source).read_text().replace("kind", "sort", 1))
    for words in (["evaluate", run, "--importance_samples", "2"], ["reconstruct", run, "--output", "r.npz"]):
        assert cli(*words, "--data", "labelled.csv")[0] == 0  # by the name that they had in training
        code, _, error = cli(*words, "--data", "renamed.csv")
        assert code == 2
        assert "--label" in error
        assert cli(*words, "--data", "renamed.csv", "--label", "sort")[0] == 0
