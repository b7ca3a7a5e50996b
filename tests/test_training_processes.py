"""Two processes train one model: each with its own rows and noise, one of them writing, and resuming to the same bits."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reparam.training import Run
from test_training import assert_same_run

SCRIPT = Path(__file__).with_name("toy.py")


def command(directory, *changes):
    # Without MPI, `--cpu` would start one process only; `--multi_gpu` starts two, and device="cpu" keeps both on the CPU.
    settings = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [sys.executable, "-m", "accelerate.commands.launch", *settings, "--main_process_port", "0", SCRIPT, directory, *changes]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def launch(directory, *changes):
    return subprocess.run(command(directory, *changes), capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False)


def assert_group_ended(out):
    """Its threads too: they would abort a process that ends before them, now and then."""
    assert re.findall(r"left: (.*)", out) == ["[]", "[]"]


def test_two_processes_train_checkpoint_and_resume(tmp_path):
    straight = launch(tmp_path / "straight")
    assert straight.returncode == 0, straight.stderr[-3000:]
    assert sorted(re.findall(r"process (\d) finished 4", straight.stdout)) == ["0", "1"]
    assert len(set(re.findall(r"last noise (\[.*?\])", straight.stdout))) == 2
    assert re.findall(r"epoch (\d)/4", straight.stderr) == ["1", "2", "3", "4"]  # one of them prints
    assert_group_ended(straight.stdout)

    for epochs in (2, 4):
        part = launch(tmp_path / "resumed", f"epochs={epochs}")
        assert part.returncode == 0, part.stderr[-3000:]
    assert re.findall(r"epoch (\d)/4", part.stderr) == ["3", "4"]
    assert_same_run(tmp_path / "straight", tmp_path / "resumed")
    last = Run.open(tmp_path / "resumed").read("last")
    assert last.state["environment"]["processes"] == 2
    assert not torch.equal(last.random["cpu/0"], last.random["cpu/1"])  # each has its own


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_processes_interrupted_and_resumed(tmp_path, number):
    with subprocess.Popen(
        command(tmp_path, "epochs=100000", "patience=0"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        while "epoch 3/" not in process.stderr.readline():
            pass
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    stops = re.findall(r"process \d stopped and saved at step (\d+)", out)
    assert len(stops) == 2
    assert_group_ended(out)
    assert stops[0] == stops[1] == str(Run.open(tmp_path).read("last").state["step"])
    again = launch(tmp_path, f"epochs={int(stops[0]) // 4 + 2}", "patience=0")
    assert again.returncode == 0, again.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_diverge_together(tmp_path):
    done = launch(tmp_path, "learning_rate=1e38")
    assert done.returncode != 0
    assert len(re.findall(r"process \d .*? is not finite at step \d", done.stdout)) == 2
    assert_group_ended(done.stdout)


@pytest.mark.slow
def test_batches_that_do_not_divide(tmp_path):
    done = launch(tmp_path, "batch_size=15")
    assert done.returncode != 0
    assert "batch_size 15 does not divide among 2 processes" in done.stdout
