"""What every test has, those in docstrings too."""

import pytest
import torch
from torch.distributions import Distribution


@pytest.fixture(autouse=True)
def fixed_start() -> None:
    """The same noise and validation whatever ran before: torch's compiler turns validation off for the whole process."""
    torch.manual_seed(0)
    Distribution.set_default_validate_args(True)
