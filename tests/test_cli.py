"""The shell around the commands: help, exit codes, one line for each failure, in this process and in ones of their own."""

import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch

import reparam
from reparam import cli as shell
from reparam.errors import ArtefactError, BadInputError, DivergedError, Interrupted, StorageError
from reparam.training import Run

TINY = ["train", "vae", "--hidden", "16", "--latent_dim", "2", "--importance_samples", "2", "--threads", "1", "--device", "cpu"]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_every_command(cli, words):
    code, out, error = cli(*words)
    assert (code, error) == (0, "")
    for command in ("train", "evaluate", "sample", "reconstruct", "encode", "report", "list", "compare", "paths"):
        assert re.search(rf"^  {command} +\w", out, re.MULTILINE), command
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    "command", ["train", "train vae", "evaluate", "sample", "reconstruct", "encode", "report", "list", "compare", "paths"]
)
def test_each_command_has_help(cli, command):
    code, out, error = cli(*command.split(), "--help")
    assert (code, error) == (0, "")
    assert f"usage: reparam {command}" in out


def test_version(cli):
    assert cli("--version") == (0, f"reparam {reparam.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["evalute"], r"there is no command evalute: did you mean evaluate\?$"),
        (["zzz"], r"there is no command zzz: --help lists them all$"),
        (["--hlep"], r"there is no command --hlep"),
        (
            ["train"],
            r"MODEL is missing: reparam train MODEL .*, where MODEL is one of vae, flow, .*, sac, reinforce, world$",
        ),
        (["train", "--epochs", "3"], r"MODEL is missing"),
        (["train", "vea"], r"there is no model vea: did you mean vae\?$"),
        (["train", "os.system"], r"there is no model os.system"),
        (["list", "all"], r"'all' is one argument too many"),
    ],
)
def test_usage(refused, words, pattern):
    refused(2, pattern, *words)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BadInputError("bad\n  input"), 2, "bad input"),
        (ArtefactError("gone"), 3, "gone"),
        (DivergedError("nan"), 4, "nan"),
        (StorageError("full"), 5, "full"),
        (OSError(28, "No space left on device", "out.npy"), 5, "out.npy: No space left on device"),
        (PermissionError(13, "Permission denied", "x"), 5, "x: Permission denied"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 5, "memory ran out"),
        (torch.OutOfMemoryError("CUDA out of memory."), 5, "memory ran out"),
        (RuntimeError("shapes"), 1, "RuntimeError: shapes; this is a fault"),
        (MemoryError(), 5, "memory ran out: ask for less at a time"),
        (Interrupted("stopped and saved", signal.SIGINT), 130, "stopped and saved"),
        (Interrupted("stopped and saved", signal.SIGTERM), 143, "stopped and saved"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            ModuleNotFoundError("No module named 'rich'", name="rich.console"),
            2,
            r"this needs the package rich: pip install 'reparam\[cli\]'$",
        ),
        (
            ZeroDivisionError("division by zero"),
            1,
            "ZeroDivisionError: division by zero; this is a fault of reparam: run again with --debug to see where",
        ),
        (
            ModuleNotFoundError("No module named 'reparam.x'", name="reparam.x"),
            1,
            "ModuleNotFoundError: .*this is a fault of reparam",
        ),
        (RecursionError("deep"), 1, "RecursionError: deep; this is a fault"),
    ],
)
def test_every_failure_is_one_line_and_a_code(refused, cli, monkeypatch, error, code, line):
    def fail(words):
        raise error

    monkeypatch.setattr(shell, "_dispatch", fail)
    refused(code, rf"^reparam: error: {line}", "list")
    came, _, text = cli("--debug", "list")
    assert came == code
    assert text.startswith("Traceback")
    assert re.search(rf"^reparam: error: {line}", text, re.MULTILINE)


def test_several_processes_say_it_once(cli, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert cli("evaluate", "nowhere") == (3, "", "")

    def fail(words):
        raise StorageError("full")

    monkeypatch.setattr(shell, "_dispatch", fail)
    assert cli("list")[2] == "reparam: error (process 1): full\n"


# In processes of their own.

COMMAND = [sys.executable, "-m", "reparam.cli"]
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def process(*words, **options):
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=120, check=False, **options)


def test_exit_codes_reach_the_shell(tmp_path):
    done = process("evaluate", tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"reparam: error: {tmp_path} is not a run: it has no run.json; give a directory that training made\n"
    done = process("list", "--debug", "--wrong")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_a_reader_that_leaves():
    with subprocess.Popen([*COMMAND, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=BUFFERED) as started:
        started.stdout.close()
        assert started.stderr.read() == b""
        assert started.wait(60) == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a device that is always full")  # noqa: PTH110
def test_output_that_cannot_be_written():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*COMMAND, "list"], stdout=full, stderr=subprocess.PIPE, text=True, env=BUFFERED, timeout=60, check=False
        )
    assert done.returncode == 5
    assert done.stderr == "reparam: error: the output: No space left on device\n"


def run_until(line, words, number, **options):
    """Start a command, send it a signal when a line of its standard error has this in it, and give its code and the rest."""
    with subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as started:
        while line not in (read := started.stderr.readline()):
            assert read, "it ended before that"
        started.send_signal(number)
        _, rest = started.communicate(timeout=60)
        return started.returncode, rest


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)])
def test_interrupted_training_is_saved_and_the_same_command_goes_on(cli, tmp_path, number, code):
    words = [*TINY, "--patience", "0", "--out", tmp_path / "run"]
    came, error = run_until("epoch 2/", [*words, "--epochs", "100000"], number)
    assert came == code
    assert re.fullmatch(
        r"(epoch .*\n)*reparam: error: stopped and saved at step \d+, in epoch \d+: the same command goes on from there\n", error
    )
    stopped = Run.open(tmp_path / "run").read("last").state
    came, _, error = cli(*words, "--epochs", stopped["epoch"] + 1)
    assert came == 0, error
    assert re.findall(r"^epoch (\d+)/", error, re.MULTILINE) == [str(stopped["epoch"] + 1)]


def test_second_process_in_one_directory_is_refused(refused, tmp_path):
    words = [*TINY, "--epochs", "100000", "--patience", "0", "--out", tmp_path / "run"]
    with subprocess.Popen([*COMMAND, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as first:
        try:
            while "epoch 1/" not in first.stderr.readline():
                pass
            refused(2, rf" is in use by process {first.pid}: ", *words, "--restart")
        finally:
            first.kill()
    assert not (tmp_path / "run.old-1").exists()


def test_a_full_disk_leaves_the_old_output(cli, tmp_path):
    assert cli(*TINY, "--epochs", 1, "--out", tmp_path / "run")[0] == 0
    output = tmp_path / "s.npy"
    assert cli("sample", tmp_path / "run", "--n", 2, "--output", output)[0] == 0
    before = output.read_bytes()

    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = process("sample", tmp_path / "run", "--n", 200, "--output", output, preexec_fn=small)
    assert done.returncode == 5
    assert re.fullmatch(r"reparam: error: cannot write .*s\.npy \(\d+ bytes\): File too large; .*\n", done.stderr)
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "s.npy"]


def test_a_missing_package_is_named(tmp_path):
    (tmp_path / "jsonargparse.py").write_text("raise ModuleNotFoundError(\"No module named 'jsonargparse'\", name='jsonargparse')")
    done = process("list", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr == "reparam: error: this needs the package jsonargparse: pip install 'reparam[cli]'\n"


def test_two_processes_print_and_write_once(tmp_path):
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", "reparam.cli"]
    words = [*TINY, "--epochs", "1", "--out", tmp_path / "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launch, *map(str, words)], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("digits: 1437 for training") == done.stdout.count("Report: ") == done.stderr.count("epoch 1/1") == 1
    assert Run.open(tmp_path / "run").read("last").state["environment"]["processes"] == 2


@pytest.mark.parametrize("delay", [0.15, 0.3, 0.5, 0.8])
def test_interrupt_while_starting_ends_with_130(delay, tmp_path):
    # Before training there is nothing to save: imports must neither swallow the signal nor break on it.
    words = [*map(str, TINY), "--epochs", "100000", "--patience", "0", "--out", str(tmp_path / "run")]
    # The interpreter takes its time to start on a busy machine: the clock begins when our program does. Where the tests run in
    # the background, they inherit that the signal is ignored.
    code = f"""
import signal, sys
from reparam.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
print("started", flush=True)
sys.exit(main({words}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert error.count("reparam: error: ") == 1
