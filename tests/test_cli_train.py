"""`reparam train`: the same command goes on, another one is refused, and nothing that was saved is lost."""

import json
import os
import re
import shutil
import warnings

import numpy as np
import pytest
import torch

import reparam
from reparam.training import Run

TINY = ["train", "vae", "--hidden", "16", "--latent_dim", "2", "--importance_samples", "2", "--threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A finished run of two epochs, to copy."""
    from reparam.cli import main

    directory = tmp_path_factory.mktemp("base") / "run"
    assert main([*TINY, "--epochs", "2", "--out", str(directory)]) == 0
    return directory


@pytest.fixture
def run(base, tmp_path):
    return shutil.copytree(base, tmp_path / "run")


def weights(directory, which="last"):
    return Run.open(directory).read(which).weights


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def files(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != "lock"}


def test_default_directory_and_what_is_said(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, error = cli(*TINY, "--epochs", 1)
    assert code == 0, error
    assert "digits: 1437 for training, 180 for validation, 180 for the test; pixels are counts 0..16" in out
    assert re.search(r"Finished 1 epoch\. The best validation ELBO is -\d+\.\d\d\.", out)
    assert re.search(
        r"On the test set, 180 data, nats per datum:\n  ELBO +-\d+\.\d\d  \(reconstruction -\d+.\d\d, KL \d+\.\d\d\)", out
    )
    assert re.search(r"-log p\(x\) +\d+\.\d\d ± \d+\.\d\d  \(2 importance samples\)\n  active latents  \d of 2", out)
    assert "Report: runs/vae/report.html\n" in out
    assert (tmp_path / "runs/vae/report.html").stat().st_size > 10_000
    for command in re.findall(r"^  (reparam \w+ runs/vae)$", out, re.MULTILINE):
        assert cli(*command.split()[1:])[0] == 0, command
    assert re.fullmatch(r"epoch 1/1  elbo .*\n", error)


def test_record_is_enough_to_make_it_again(base):
    record = Run.open(base).record
    assert record["model"] == {"name": "vae", "config": record["model"]["config"]}
    assert record["model"]["config"]["likelihood"] == "binomial"  # what was chosen, not that it was left open
    assert record["data"]["sizes"] == {"train": 1437, "validation": 180, "test": 180}
    assert record["training"]["epochs"] == 2
    assert record["versions"]["reparam"] == reparam.__version__


def test_the_same_command_is_finished_already(cli, run):
    before = files(run)
    code, out, _ = cli(*TINY, "--epochs", 2, "--out", run)
    assert code == 0
    assert "is finished already, after 2 epochs: --epochs or --patience with a larger number goes on, --restart begins anew." in out
    assert files(run) == before


@pytest.mark.parametrize("page", ["missing", "older than the last checkpoint"])
def test_a_finished_run_without_its_report_gets_it(cli, run, page):
    report = run / "report.html"
    if page == "missing":
        report.unlink()
    else:
        report.write_text("old")
        os.utime(report, (0, 0))
    assert cli(*TINY, "--epochs", 2, "--out", run)[0] == 0
    assert report.stat().st_size > 10_000


def test_more_epochs_go_on_to_the_bits_of_a_run_that_never_stopped(cli, run, tmp_path):
    assert cli(*TINY, "--epochs", 4, "--out", run)[0] == 0
    assert cli(*TINY, "--epochs", 4, "--out", tmp_path / "straight")[0] == 0
    assert same(weights(run), weights(tmp_path / "straight"))
    assert [row["epoch"] for row in Run.open(run).history()] == [1, 2, 3, 4]
    assert [row["train/elbo"] for row in Run.open(run).history()] == [
        row["train/elbo"] for row in Run.open(tmp_path / "straight").history()
    ]


def test_seed_decides_the_run_and_the_callers_generator_is_left_alone(cli, base, tmp_path):
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    cli(*TINY, "--epochs", 2, "--out", tmp_path / "same")
    assert torch.equal(torch.random.get_rng_state(), state)
    cli(*TINY, "--epochs", 2, "--seed", 1, "--out", tmp_path / "other")
    assert same(weights(base), weights(tmp_path / "same"))
    assert not same(weights(base), weights(tmp_path / "other"))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (["--latent_dim", "3"], r"model.config.latent_dim was 2, now 3"),
        (["--learning_rate", "0.1"], r"training.learning_rate was 0.001, now 0.1"),
        (["--split_seed", "1"], r"data.options.split_seed was 0, now 1"),
    ],
)
def test_other_settings_are_refused(refused, run, change, difference):
    before = files(run)
    pattern = f"holds a run with other settings: {difference}: give another directory, .*--force.*--restart"
    refused(2, pattern, *TINY, "--epochs", 2, "--out", run, *change)
    assert files(run) == before


def test_other_data_under_the_same_name_are_refused(cli, refused, tmp_path):
    file = tmp_path / "mine.npz"
    for value in (0, 1):
        np.savez(file, x=(np.arange(400).reshape(100, 4) % 7 > 2 + value).astype(np.uint8))
        if value == 0:
            assert cli(*TINY, "--epochs", 1, "--out", tmp_path / "run", "--data", file)[0] == 0
    refused(2, r"the data are not what they were", *TINY, "--epochs", 1, "--out", tmp_path / "run", "--data", file)
    refused(2, "mine.npz' has changed since .*run was trained on it", "evaluate", tmp_path / "run")
    file.unlink()
    refused(2, "there is no file, folder or data set '.*mine.npz'", "evaluate", tmp_path / "run")


def test_force_goes_on_with_other_settings(cli, run):
    assert cli(*TINY, "--epochs", 3, "--out", run, "--learning_rate", "0.01", "--force")[0] == 0
    assert [row["epoch"] for row in Run.open(run).history()] == [1, 2, 3]
    assert Run.open(run).record["training"]["learning_rate"] == 0.01


def test_force_cannot_make_another_model_of_it(refused, run):
    before = files(run)
    pattern = r"belongs to another model: .*: these settings cannot go on from it: give another --out, or --restart$"
    refused(2, pattern, *TINY, "--epochs", 3, "--out", run, "--latent_dim", "3", "--force")
    assert files(run) == before


def test_restart_sets_the_old_run_aside_and_says_where(cli, run):
    old = weights(run)
    code, out, _ = cli(*TINY, "--epochs", 1, "--out", run, "--latent_dim", "3", "--restart", "--force")
    assert code == 0
    aside = run.with_name("run.old-1")
    assert f"The run that was here is now {aside.resolve()}\n" in out
    assert same(weights(aside), old)
    assert Run.open(run).record["model"]["config"]["latent_dim"] == 3
    assert cli("evaluate", aside, "--importance_samples", "2")[0] == 0


def test_divergence_keeps_the_last_good_state(refused, run):
    pattern = r"is not finite at step \d+ \(epoch 3, rows .* of the training data\), which was not made; step \d+ is saved"
    refused_line = [4, pattern, *TINY, "--epochs", 9, "--out", run, "--learning_rate", "1e30", "--force"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(*refused_line)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(run).values())


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("file", "is a file: give a directory for the run"),
        ("record", "run.json"),
    ],
)
def test_a_directory_that_cannot_be_used(refused, run, what, pattern):
    if what == "file":
        refused(2, pattern, *TINY, "--epochs", 1, "--out", run / "run.json")
    else:
        (run / "run.json").write_text("{")
        refused(3, pattern, *TINY, "--epochs", 1, "--out", run)


def test_names_with_spaces_and_dots(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b").mkdir()
    out = "a b/../größe %2e%2e/run"
    assert cli(*TINY, "--epochs", 1, "--out", out)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b", "größe %2e%2e"]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "größe %2e%2e/run")
    assert cli("evaluate", link, "--importance_samples", 2)[0] == 0
    code, said, _ = cli(*TINY, "--epochs", 1, "--out", link, "--restart")
    assert code == 0
    assert f"is now {(tmp_path / 'größe %2e%2e/run.old-1').resolve()}" in said
    assert link.is_symlink()


def test_warnings_are_one_line(cli, tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[:, 1] = 4.0
    np.savetxt(tmp_path / "t.csv", x, delimiter=",", header="a,b,c", comments="")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, error = cli(*TINY, "--epochs", 1, "--out", tmp_path / "run", "--data", tmp_path / "t.csv")
    assert code == 0
    lines = error.splitlines()
    assert [line for line in lines if line.startswith("reparam: warning: ") and "'b'" in line] == lines[:1]
    code, _, error = cli("sample", tmp_path / "run", "--output", tmp_path / "s.png")
    assert code == 2
    assert "data of shape (3,) make no picture: give --output a name that ends in .npz or .npy" in error


def test_settings_from_a_file_train(cli, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("epochs: 1\nhidden: [8]\nlatent_dim: 2\nlearning_rate: 1e-2\nimportance_samples: 2\nthreads: 1\n")
    assert cli("train", "vae", "--config", file, "--out", tmp_path / "run")[0] == 0
    record = Run.open(tmp_path / "run").record
    assert (record["training"]["learning_rate"], record["model"]["config"]["hidden"]) == (0.01, [8])


@pytest.mark.parametrize(
    ("flags", "tables"),
    [
        (["--latent", "bernoulli", "--estimator", "disarm"], {"probability": (180, 2)}),
        (["--latent", "categorical", "--categories", "3", "--estimator", "gumbel_softmax"], {"probability": (180, 2, 3)}),
    ],
)
def test_discrete_latents_from_end_to_end(cli, tmp_path, flags, tables):
    run = tmp_path / "run"
    code, _, error = cli(*TINY, "--epochs", 1, "--out", run, *flags)
    assert code == 0, error
    assert ("relaxed_elbo" in error) == ("gumbel_softmax" in flags)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "How noisy the gradient is" in page
    assert f"{flags[-1]} (this run)" in page
    assert cli("evaluate", run, "--importance_samples", 2)[0] == 0
    assert cli("sample", run, "--output", tmp_path / "s.png")[0] == 0
    assert cli("reconstruct", run, "--output", tmp_path / "r.npz")[0] == 0
    assert cli("encode", run, "--part", "test", "--output", tmp_path / "c.npz")[0] == 0
    assert cli("encode", run, "--part", "test", "--output", tmp_path / "c.parquet")[0] == 0
    with np.load(tmp_path / "c.npz") as found:
        assert {name: found[name].shape for name in tables} == tables
        columns = found["probability"].reshape(180, -1).shape[1]
    import pandas as pd

    names = list(pd.read_parquet(tmp_path / "c.parquet").columns)
    assert names[columns:] == ["row", "part", "label"]
    assert names[columns - 1] == ("probability_1" if columns == 2 else "probability_1_2")


def test_an_estimator_that_does_not_fit_is_refused(refused, tmp_path):
    refused(2, r"estimator='disarm' is for latent=", *TINY, "--estimator", "disarm", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_noise_of_the_gradient_is_followed(cli, tmp_path):
    code, _, error = cli(*TINY, "--epochs", 2, "--gradient_snr", "--out", tmp_path / "run")
    assert code == 0, error
    history = Run.open(tmp_path / "run").history()
    assert all(0 <= row[f"snr/{part}"] < 1000 for row in history for part in ("encoder", "decoder"))
    assert "Signal to noise of the gradient" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_runs_of_before_there_were_some_settings_go_on(cli, run):
    """As version 0.1.0 wrote them first: without what came later, and with a name that has changed."""
    record = json.loads((run / "run.json").read_text())
    record["data"]["options"]["bad_images"] = record["data"]["options"].pop("bad_files")
    for section, names in {
        "training": ["ema", "warm_up", "learning_rate_schedule", "noise"],
        "data": ["classes", "codec"],
    }.items():
        for name in names:
            del record[section][name]
    del record["model"]["config"]["word_dropout"], record["data"]["options"]["tokens"]
    (run / "run.json").write_text(json.dumps(record))
    for command in ("evaluate", "report"):
        assert cli(command, run)[0] == 0
    assert cli(*TINY, "--epochs", "3", "--out", run)[0] == 0
    (run / "run.json").write_text(json.dumps(record))
    code, _, error = cli(*TINY, "--epochs", "3", "--out", run, "--ema", "0.9")
    assert code == 2
    assert "training.ema was 0.0, now 0.9" in error
