"""What several test files share."""

import os
import re
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets that lives outside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("REPARAM_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"needs the real data sets, and {folder} is not a folder: set REPARAM_DATA to where they are")
    return folder


@pytest.fixture
def cli(capsys):
    """Runs a command in this process: its exit code, standard output and standard error."""
    from reparam.cli import main

    def run(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(cli):
    """Runs a command that must fail with this exit code and one line on standard error that matches."""

    def run(code, pattern, *words):
        came, _, error = cli(*words)
        line = error.removesuffix("\n")
        assert (came, line[:16]) == (code, "reparam: error: "), error
        assert "\n" not in line
        assert re.search(pattern, line), line

    return run
