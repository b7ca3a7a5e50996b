"""Nothing saved is ever lost: killed after any file operation or at any moment, on a full disk, in a folder that is read-only.

Each test runs this file as a process of its own, which forks one child for each crash: a fork costs milliseconds, an import of
torch seconds, and forking the test runner itself is not safe.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from reparam.errors import StorageError
from reparam.training import Run
from reparam.training.checkpoint import Checkpoint, read
from toy import record, settings

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate"}


def saved(step):
    """A checkpoint whose every byte follows from its step, each of them the best so far."""
    generator = torch.Generator().manual_seed(step)
    weights = {f"w{i}": torch.randn(64, 64, generator=generator) for i in range(3)}
    history = [{"epoch": i, "validation/elbo": -1.0 / (i + 1)} for i in range(step)]
    return Checkpoint({"step": step, "best": {"step": step}, "history": history}, weights, {"exp_avg/w0": weights["w0"] + 1}, {})


def check(run, least):
    """Every checkpoint is whole, and the last is what it says it is and not older than the last one known to be saved."""
    for folder in run.checkpoints():
        read(folder)
    last = run.read("last")
    step = last.state["step"]
    assert step >= least, f"step {least} was saved, {step} is there"
    wanted = saved(step)
    assert all(torch.equal(last.weights[name], wanted.weights[name]) for name in wanted.weights)
    best = run.read("best")
    assert best is not None
    assert best.state["step"] in (step, step - 1)
    return step


def fork(work):
    """Run `work` in a child; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if not child:
        code = 70
        try:
            work()
            code = 0
        except BaseException as error:  # a child must never come back up into its parent's code
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def start(directory, step=1):
    shutil.rmtree(directory, ignore_errors=True)
    with Run.create(directory, record(settings())) as run:
        run.save(saved(step), keep=1)
        run.write_history([{"epoch": step}])


def crash_after(n):
    """End this process just before the file operation after the n-th one."""
    left = n

    def hook(event, args):
        nonlocal left
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in CHANGES or writes:
            if not left:
                os._exit(9)
            left -= 1

    sys.addaudithook(hook)


def every_operation(directory):
    n = 0
    while True:
        start(directory)

        def work(n=n):
            crash_after(n)
            with Run.create(directory, record(settings())) as run:
                run.save(saved(2), keep=1)
                run.write_history([{"epoch": 2}])

        code = fork(work)
        assert code in (0, 9), code
        check(Run.open(directory), 2 if code == 0 else 1)
        assert Run.open(directory).history() in ([{"epoch": 1}], [{"epoch": 2}])
        with Run.create(directory, record(settings())) as run:  # the next process sweeps, and saves
            assert not list(directory.rglob(".*"))
            if check(run, 1) == 1:
                run.save(saved(2), keep=1)
            check(run, 2)
        n += 1
        if code == 0:
            break
    print(n)


def random_kills(directory, times):
    wait = random.Random(0)
    start(directory)
    least = 1
    for _ in range(int(times)):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                with Run.create(directory, record(settings())) as run:
                    step = run.read("last").state["step"]
                    while True:
                        step += 1
                        run.save(saved(step), keep=1)
                        os.write(writing, step.to_bytes(4, "little"))
            finally:
                os._exit(70)
        os.close(writing)
        os.read(reading, 4)
        time.sleep(wait.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        told = b"".join(iter(lambda: os.read(reading, 4096), b""))  # noqa: B023
        os.close(reading)
        least = check(Run.open(directory), int.from_bytes(told[-4:], "little") if told else least + 1)
    print(least)


def full_disk(directory):
    size = sum(path.stat().st_size for path in (start(directory), directory)[1].rglob("step-*/*"))
    limits = sorted({0, 1, 100, *range(0, size, 9001)})
    failed = 0
    for limit in limits:

        def work(limit=limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            run = Run(directory, {})
            try:
                run.save(saved(2), keep=1)
            except StorageError as error:
                text = str(error)
                os._exit(5 if error.exit_code == 5 and "bytes)" in text and "File too large" in text and "\n" not in text else 71)

        start(directory)
        code = fork(work)
        assert code in (0, 5), code
        failed += code == 5
        assert not list(directory.rglob(".*")), limit
        assert check(Run.open(directory), 1) == (1 if code == 5 else 2)
    assert failed > 5
    print(failed)


def read_only(directory):
    os.chdir(directory)
    directory = Path("run")  # relative, since the folders above may be closed to the user that the child becomes
    start(directory)
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def save():
        if os.geteuid() == 0:  # whom no permission stops
            os.setgid(65534)
            os.setuid(65534)
        expect_refusal(lambda: Run(directory, {}).save(saved(2), keep=1))
        expect_refusal(lambda: Run(directory, {}).write_history([]))
        expect_refusal(lambda: Run.create(directory, record(settings())))

    code = fork(save)
    assert code == 0, code
    assert check(Run.open(directory), 1) == 1
    print("refused")


def expect_refusal(work):
    with pytest.raises(StorageError, match="Permission denied") as caught:
        work()
    assert caught.value.exit_code == 5


def crashes(name, directory, *args):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, name, directory, *args],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_killed_after_every_file_operation(tmp_path):
    assert int(crashes("every_operation", tmp_path / "run")) > 15


@pytest.mark.parametrize("times", ["10", pytest.param("200", marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, times):
    assert int(crashes("random_kills", tmp_path / "run", times)) > int(times)


def test_full_disk(tmp_path):
    crashes("full_disk", tmp_path / "run")


def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o755)
    assert crashes("read_only", tmp_path) == "refused\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
