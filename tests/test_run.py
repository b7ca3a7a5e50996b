"""A run directory: who may use it, what counts as the same run, and what is said when something in it is wrong."""

import csv
import json
import os
import stat
import subprocess
import sys

import pytest
import torch

import reparam
from reparam.errors import ArtefactError, BadInputError, StorageError
from reparam.training import Run
from reparam.training import run as run_module
from toy import Toy, record, settings, toy, train


@pytest.fixture
def trained(tmp_path):
    train(tmp_path / "run")
    return tmp_path / "run"


def test_layout(trained):
    assert sorted(path.name for path in trained.iterdir()) == ["best", "checkpoints", "history.csv", "lock", "run.json"]
    steps = [path.name for path in sorted((trained / "checkpoints").iterdir())]
    assert steps == ["step-00000012", "step-00000016"]  # keep=2
    assert (trained / "best").read_text() in steps


def test_record_is_kept_with_versions(trained):
    kept = Run.open(trained).record
    assert kept["format"] == 1
    assert kept["versions"]["reparam"] == reparam.__version__
    assert kept["versions"]["torch"] == torch.__version__
    assert kept["training"]["batch_size"] == 16
    assert kept["data"]["digest"] == "abc"


def test_history_is_what_fit_returned(tmp_path):
    _, result = train(tmp_path / "run")
    assert Run.open(tmp_path / "run").history() == result.history
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]
    assert [row["step"] for row in result.history] == [4, 8, 12, 16]
    with (tmp_path / "run" / "history.csv").open() as file:
        assert next(csv.reader(file))[:4] == ["epoch", "step", "seconds", "train/elbo"]


def test_damaged_history_is_named_and_written_anew(trained):
    (trained / "history.csv").write_text("epoch,step\n1,x\n")
    with pytest.raises(ArtefactError, match=r"history\.csv is damaged"):
        Run.open(trained).history()
    train(trained, settings(epochs=5))
    assert len(Run.open(trained).history()) == 5


@pytest.mark.parametrize("which", ["best", "last"])
def test_load_weights(tmp_path, which):
    model, _ = train(tmp_path / "run")
    other = Toy()
    Run.open(tmp_path / "run").load_weights(other, which)
    if which == "last" or (tmp_path / "run" / "best").read_text() == "step-00000016":
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_load_weights_into_another_model(trained):
    with pytest.raises(
        ArtefactError, match=r"another model: .*encode.weight is float32 \[2, 6\], the model has float32 \[3, 6\];"
    ) as caught:
        Run.open(trained).load_weights(Toy(latent=3))
    assert str(caught.value).count(";") == 3  # four differences: weight, bias, decoder's weight, scale
    with pytest.raises(ArtefactError, match="float64"):
        Run.open(trained).load_weights(Toy().double())


def test_nonfinite_weights_are_refused_unless_asked_for(trained):
    run = Run.open(trained)
    last = run.read("last")
    last.weights["decode.bias"][2] = float("nan")
    last.state["step"] = 17
    run.save(last, keep=2)
    with pytest.raises(ArtefactError, match=r"1 of 6 values of decode\.bias.*allow_nonfinite"):
        run.load_weights(Toy(), "last")
    model = Toy()
    run.load_weights(model, "last", allow_nonfinite=True)
    assert model.decode.bias[2].isnan()


def test_no_checkpoint_yet(tmp_path):
    with Run.create(tmp_path, record(settings())) as run, pytest.raises(ArtefactError, match="no best checkpoint: train first"):
        run.load_weights(Toy())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is not a run"),
        (lambda path: path.write_text("x"), "is a file"),
    ],
)
def test_open_something_else(tmp_path, make, words):
    make(tmp_path / "run")
    with pytest.raises(ArtefactError, match=words):
        Run.open(tmp_path / "run")


@pytest.mark.parametrize("text", ["", "{", "[]", "<html>", "[" * 100_000])
def test_damaged_record(trained, text):
    (trained / "run.json").write_text(text)
    with pytest.raises(ArtefactError, match=r"run\.json"):
        Run.open(trained)
    with pytest.raises(ArtefactError, match=r"run\.json"):
        train(trained)


def test_newer_record_names_both_versions(trained):
    kept = json.loads((trained / "run.json").read_text())
    kept["format"], kept["versions"]["reparam"] = 2, "9.9.9"
    (trained / "run.json").write_text(json.dumps(kept))
    with pytest.raises(ArtefactError, match=rf"format 2, written by reparam 9\.9\.9; this is reparam {reparam.__version__}"):
        Run.open(trained)


def test_lost_record_is_not_replaced_silently(trained):
    (trained / "run.json").unlink()
    with pytest.raises(ArtefactError, match="put it back, or restart"):
        train(trained)
    _, result = train(trained, restart=True)
    assert result.status == "finished"


# What counts as the same run.


@pytest.mark.parametrize(
    "changes", [{"epochs": 5}, {"patience": 7}, {"checkpoint_every": 3}, {"keep": 5}, {"device": "auto"}, {"threads": None}]
)
def test_changes_that_go_on_with_the_run(trained, changes):
    with Run.create(trained, record(settings(**changes))) as run:
        assert run.read("last").state["step"] == 16
    assert Run.open(trained).record["training"] == json.loads(json.dumps(vars(settings(**changes))))


@pytest.mark.parametrize("changes", [{"seed": 1}, {"batch_size": 8}, {"learning_rate": 0.1}, {"clip": 1.0}, {"weight_decay": 0.1}])
def test_changes_that_make_another_run(trained, changes):
    before = (trained / "run.json").read_bytes()
    ((name, value),) = changes.items()
    with pytest.raises(BadInputError, match=f"training.{name} was .*, now {value}.*force.*restart"):
        Run.create(trained, record(settings(**changes)))
    assert (trained / "run.json").read_bytes() == before
    with Run.create(trained, record(settings(**changes)), force=True) as run:
        assert run.read("last").state["step"] == 16
    assert Run.open(trained).record["training"][name] == value


def test_other_data_is_refused_and_moved_data_is_not(trained):
    with pytest.raises(BadInputError, match="other settings: the data are not what they were"):
        Run.create(trained, record(settings(), digest="xyz"))
    Run.create(trained, record(settings(), source="elsewhere.npz", name="elsewhere")).close()


def test_the_first_five_of_many_differences(trained):
    other = {**record(settings()), "model": {f"option{i}": i for i in range(8)}}
    with pytest.raises(BadInputError, match=r"model.name was 'toy', now 'not there'.* and 4 more: give another directory"):
        Run.create(trained, other)


def test_restart_begins_anew_and_loses_nothing(trained):
    before = Run.open(trained).history()
    for n in (1, 2):
        with Run.create(trained, record(settings(seed=5, epochs=2)), restart=True) as run:
            assert run.aside == trained.with_name(f"{trained.name}.old-{n}").resolve()
        _, result = train(trained, settings(seed=5, epochs=2))
        assert result.status == "finished"
    old = Run.open(trained.with_name(f"{trained.name}.old-1"))
    old.load_weights(Toy())
    assert old.history() == before
    assert [row["epoch"] for row in Run.open(trained).history()] == [1, 2]
    assert [path.name for path in Run.open(trained).checkpoints()] == ["step-00000004", "step-00000008"]


def test_restart_of_nothing_moves_nothing(tmp_path):
    for _ in range(2):
        with Run.create(tmp_path / "run", record(settings()), restart=True) as run:
            assert run.aside is None
        (tmp_path / "run/run.json").unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# One process at a time.


def test_second_user_is_refused(tmp_path):
    with Run.create(tmp_path, record(settings())):
        with pytest.raises(BadInputError, match=f"in use by process {os.getpid()}: ") as caught:
            Run.create(tmp_path, record(settings()))
        assert caught.value.exit_code == 2
    Run.create(tmp_path, record(settings())).close()


def test_looking_needs_no_lock(tmp_path):
    with Run.create(tmp_path, record(settings())):
        assert Run.open(tmp_path).history() == []


HOLD = """
import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(lock, str(os.getpid()).encode())
print("held", flush=True)
sys.stdin.read()
"""


def test_lock_of_another_process_holds_while_it_lives_and_not_after_kill_9(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BadInputError, match=f"in use by process {other.pid}"):
            Run.create(tmp_path, record(settings()))
        other.kill()
    assert (tmp_path / "lock").read_text() == str(other.pid)  # stale
    with Run.create(tmp_path, record(settings())):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_lock_is_given_back_when_creation_fails(trained):
    with pytest.raises(BadInputError):
        Run.create(trained, record(settings(seed=9)))
    Run.create(trained, record(settings())).close()


def test_other_ranks_neither_lock_nor_write(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    Run.create(tmp_path / "run", record(settings())).close()
    assert not (tmp_path / "run").exists()


# Damage.


def damage(folder):
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_damaged_last_checkpoint_offers_the_one_before_and_is_never_passed_over(trained):
    first, last = Run.open(trained).checkpoints()
    damage(last)
    for _ in range(2):
        with pytest.raises(
            ArtefactError, match=rf"damaged in tensor .*; {first} is whole: remove {last} to go on from it"
        ) as caught:
            train(trained, settings(epochs=5))
        assert caught.value.exit_code == 3
    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    _, result = train(trained, settings(epochs=5))
    assert result.epochs == 5


def test_damaged_best_checkpoint(trained):
    best = trained / "checkpoints" / (trained / "best").read_text()
    damage(best)
    with pytest.raises(ArtefactError, match=r"--checkpoint last"):
        Run.open(trained).load_weights(Toy())


def test_all_damaged(trained):
    for folder in Run.open(trained).checkpoints():
        damage(folder)
    with pytest.raises(ArtefactError, match="no other checkpoint here is whole: restart"):
        Run.open(trained).load_weights(Toy(), "last")


def test_a_marker_cannot_point_out_of_the_run(trained, tmp_path):
    (trained / "checkpoints" / (trained / "best").read_text()).rename(tmp_path / "outside")
    (trained / "best").write_text("../../outside")
    with pytest.raises(ArtefactError, match="checkpoints/outside is missing"):
        Run.open(trained).load_weights(Toy())


def test_leftovers_of_a_killed_process_are_swept(trained):
    (trained / "checkpoints" / ".step-00000020.part").mkdir()
    (trained / "checkpoints" / ".step-00000020.part" / "weights.safetensors").write_text("half")
    (trained / "checkpoints" / ".step-00000008.gone").mkdir()
    (trained / ".history.csv.part").write_text("half")
    Run.create(trained, record(settings())).close()
    assert not list(trained.rglob(".*"))
    assert len(Run.open(trained).checkpoints()) == 2


# The directory itself.


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(BadInputError, match="is a file"):
        Run.create(tmp_path / "run", record(settings()))
    with pytest.raises(StorageError) as caught:
        Run.create(tmp_path / "run" / "below", record(settings()))
    assert caught.value.exit_code == 5


def test_spaces_and_other_letters(tmp_path):
    place = tmp_path / "Läufe von Ørsted" / "试验 1"
    train(place)
    Run.open(place).load_weights(Toy())


def test_links_are_followed_and_permissions_kept(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    train(tmp_path / "run", settings(epochs=1))
    (tmp_path / "elsewhere" / "history.csv").rename(tmp_path / "table.csv")
    (tmp_path / "elsewhere" / "history.csv").symlink_to(tmp_path / "table.csv")
    (tmp_path / "table.csv").chmod(0o640)
    train(tmp_path / "run", settings(epochs=2))
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "elsewhere" / "history.csv").is_symlink()
    assert stat.S_IMODE((tmp_path / "table.csv").stat().st_mode) == 0o640
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 3


def test_new_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        train(tmp_path / "run", settings(epochs=1))
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert modes == {0o640}


def test_special_files_are_not_replaced(trained):
    (trained / "history.csv").unlink()
    os.mkfifo(trained / "history.csv")
    with pytest.raises(StorageError, match="not a regular file"):
        train(trained, settings(epochs=5))


def test_checkpoints_sort_by_step_beyond_the_padding(tmp_path):
    for step in (99_999_999, 100_000_000, 3):
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    names = [path.name for path in Run(tmp_path, {}).checkpoints()]
    assert names == ["step-00000003", "step-99999999", "step-100000000"]


def test_free_names_exist_in_the_settings():
    free = {name.removeprefix("training.") for name in run_module.FREE if name.startswith("training.")}
    assert free <= set(vars(settings()))


def test_which_is_checked(trained):
    with pytest.raises(BadInputError, match="give best or last"):
        Run.open(trained).load_weights(toy(), "newest")


def test_lost_checkpoints_are_not_begun_anew_in_silence(tmp_path):
    with Run.create(tmp_path / "run", {"model": "toy"}) as run:
        (run.path / "best").write_text("step-00000004")
    with pytest.raises(ArtefactError, match="lost its checkpoints"):
        Run.create(tmp_path / "run", {"model": "toy"})
    with Run.create(tmp_path / "run", {"model": "toy"}, restart=True):
        pass
