"""What an import costs and changes, each looked at in a fresh process."""

import json
import subprocess
import sys

import pytest

import reparam

HEAVY = {
    "torch",
    "numpy",
    "accelerate",
    "jsonargparse",
    "rich",
    "matplotlib",
    "sklearn",
    "pandas",
    "pyarrow",
    "PIL",
    "jinja2",
    "safetensors",
    "yaml",
}


def fresh(code):
    """What the code prints as JSON, run in a process of its own where a warning is an error."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout.splitlines()[-1])


def loaded(code):
    """The heavy packages in memory after the code."""
    return set(fresh(f"import json, sys\n{code}\nprint(json.dumps([name for name in {sorted(HEAVY)} if name in sys.modules]))"))


def test_names_of_the_first_hour_are_pinned():
    assert reparam.__all__ == [
        "Antithetic", "Enumerate", "Fresh", "LeaveOneOut", "NoPathError", "Noise", "Path", "Pathwise", "Replay", "Score", "Sobol",
        "choose", "detached", "diagnose", "elbo", "expect", "graph", "implicit", "noise_like", "path", "relaxed", "reparameterized",
        "rsample", "sample", "sample_and_log_prob",
    ]  # fmt: skip
    assert len(reparam.__all__) <= 25
    assert reparam.distributions.Logistic is not None
    assert reparam.testing.check_path is not None
    for name in dir(reparam):
        assert getattr(reparam, name) is not None
    assert set(reparam.estimators.__all__) | set(reparam.objectives.__all__) <= set(dir(reparam))
    with pytest.raises(AttributeError, match="module 'reparam' has no attribute 'rsampel'"):
        reparam.rsampel  # noqa: B018


def test_package_loads_nothing_before_a_name_is_used():
    assert loaded("import reparam") == set()


@pytest.mark.parametrize(
    "code",
    [
        "import reparam; [getattr(reparam, name) for name in reparam.__all__]",
        "import reparam.models.vae, reparam.training, reparam.stats, reparam.diagnostics, reparam.objectives",
    ],
)
def test_library_loads_torch_and_numpy_only(code):
    assert loaded(code) == {"torch", "numpy"}


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        ([], set()),
        (["--help"], set()),
        (["--version"], set()),
        (["train"], set()),
        (["train", "--help"], set()),
        (["trian"], set()),
        (["evaluate", "--help"], {"jsonargparse", "yaml"}),
        (["list"], {"jsonargparse", "yaml"}),
    ],
)
def test_help_answers_before_torch_is_in_memory(words, allowed):
    code = f"import contextlib, io\nfrom reparam.cli import main\nwith contextlib.redirect_stderr(io.StringIO()): main({words})"
    assert loaded(code) <= allowed


CHANGES = """
import json, random, signal, sys, threading, warnings
import numpy, torch

def state():
    return {
        "torch": torch.random.get_rng_state().tolist(),
        "numpy": str(numpy.random.get_state()),
        "random": str(random.getstate()),
        "dtype": str(torch.get_default_dtype()),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "validation": torch.distributions.Distribution._validate_args,
        "filters": str(warnings.filters),
        "printing": str(numpy.get_printoptions()),
        "hooks": [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__],
        "signals": str([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]),
        "alive": threading.active_count(),
        "classes": {name: sorted(vars(kind)) for name, kind in vars(torch.distributions).items() if isinstance(kind, type)},
        "tensor": sorted(vars(torch.Tensor)),
        "module": sorted(vars(torch.nn.Module)),
    }

before = state()
import reparam, reparam.cli.train, reparam.cli.commands, reparam.models.vae, reparam.report, reparam.data
[getattr(reparam, name) for name in reparam.__all__]
after = state()
print(json.dumps([name for name in before if before[name] != after[name]]))
"""


def test_importing_changes_nothing_and_says_nothing():
    assert fresh(CHANGES) == []
