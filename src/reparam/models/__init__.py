"""Models that people train: each is one module, with a frozen `Config` beside the `nn.Module`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

__all__ = ["MODELS", "Entry", "load"]


@dataclass(frozen=True)
class Entry:
    """A model as the command line knows it.

    Attributes:
        home: the module it lives in and the name of its class; imported when the model is asked for.
        summary: what it is, in a line.
        data: what it trains on unless told otherwise.
        expected: what that comes to.
        seconds: how long that takes on two cores.
        defaults: of the settings of training and data, where the model's are not the general ones.
        environment: the one that it acts in unless told otherwise; None for a model that does not act.
        on_data: whether it can be trained on data.
        data_defaults: of a model that has an environment too, the defaults on data.
    """

    home: str
    summary: str
    data: str
    expected: str
    seconds: int
    defaults: Mapping[str, Any] = field(default_factory=dict)
    environment: str | None = None
    on_data: bool = True
    data_defaults: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> tuple[Any, Any]:
        """The model's class and its `Config`."""
        module, name = self.home.split(":")
        found = import_module(module)
        return getattr(found, name), found.Config


#: The models, by their name on the command line. Nothing else is ever imported by a name that a file or a user gives.
MODELS = {
    "vae": Entry(
        home="reparam.models.vae:VAE",
        summary="variational autoencoder: images, vectors, lines of text or recordings through latents: normal, coins or choices",
        data="digits",
        expected="test ELBO -93 nats, -log p(x) 87 nats",
        seconds=20,
    ),
    "flow": Entry(
        home="reparam.models.flow:Flow",
        summary="normalizing flow: the density of vectors, or of a function that is known up to a factor",
        data="moons",
        expected="test log-likelihood -0.79 nats",
        seconds=15,
        defaults={"data": "moons", "epochs": 100, "learning_rate": 2e-3, "clip": 5.0, "ema": 0.98},
    ),
    "diffusion": Entry(
        home="reparam.models.diffusion:Diffusion",
        summary="diffusion model: vectors, signals, images or recordings from noise, step by step",
        data="digits",
        expected="-log p(x | label) at most 81 nats, 1.82 bits/dimension",
        seconds=105,
        defaults={
            "epochs": 100,
            "learning_rate": 3e-3,
            "learning_rate_schedule": "cosine",
            "warm_up": 50,
            "ema": 0.999,
            "patience": 0,
        },
    ),
    "bnn": Entry(
        home="reparam.models.bnn:BNN",
        summary="Bayesian neural network: predictions of reals or labels that say how sure they are",
        data="diabetes",
        expected="test RMSE 52, log-likelihood -5.43 nats",
        seconds=20,
        defaults={
            "data": "diabetes",
            "epochs": 60,
            "passes": 20,
            "batch_size": 100,
            "learning_rate": 1e-2,
            "learning_rate_schedule": "cosine",
            "patience": 0,
        },
    ),
    "graphical": Entry(
        home="reparam.models.graphical:Graphical",
        summary="graphical model: a table through variables with laws given their causes, some of them never seen",
        data="eight_schools",
        expected="posterior mu 4.5 ± 3.2, tau 3.6 ± 3.0",
        seconds=20,
        defaults={
            "data": "eight_schools",
            "gaps": "keep",
            "validation_fraction": 0.0,
            "test_fraction": 0.0,
            "guide": "flow",
            "samples": 16,
            "epochs": 20,
            "passes": 100,
            "learning_rate": 5e-3,
            "learning_rate_schedule": "cosine",
            "clip": 10.0,
            "patience": 0,
        },
    ),
    "sac": Entry(
        home="reparam.models.sac:SAC",
        summary="soft actor-critic: a policy over continuous actions, by pathwise gradients through learned critics",
        data="Pendulum-v1",
        expected="return -145",
        seconds=100,
        defaults={"epochs": 20, "batch_size": 256, "learning_rate": 1e-3, "patience": 0},
        environment="Pendulum-v1",
        on_data=False,
    ),
    "reinforce": Entry(
        home="reparam.models.reinforce:Reinforce",
        summary="policy gradient, REINFORCE or PPO: a policy over choices or continuous actions, by the score function",
        data="CartPole-v1",
        expected="return 500, the most there is",
        seconds=45,
        defaults={
            "environment": "CartPole-v1",
            "copies": 8,
            "epochs": 20,
            "epoch_steps": 5120,
            "batch_size": 256,
            "learning_rate": 1e-3,
            "learning_rate_schedule": "cosine",
            "patience": 0,
        },
        environment="CartPole-v1",
        on_data=False,
    ),
    "world": Entry(
        home="reparam.models.world:World",
        summary="world model: what follows on what in sequences, and an actor that learns in its imagination of an environment",
        data="Pendulum-v1",
        expected="return -160",
        seconds=110,
        defaults={"data": "none", "epochs": 6, "batch_size": 16, "learning_rate": 1e-3, "clip": 100.0, "patience": 0},
        environment="Pendulum-v1",
        data_defaults={"layout": "sequence", "batch_size": 16, "learning_rate": 1e-3, "clip": 100.0},
    ),
}


def load(directory: str | Path, which: Literal["best", "last"] = "best") -> Any:
    """The model of a run that training made, in evaluation mode, on the CPU.

    Args:
        directory: of the run.
        which: its weights at the epoch with the best validation score, or the last.

    Raises:
        ArtefactError: when there is no run, or it cannot be read; nothing in it is run as code.
    """
    from reparam.models.trained import model_of
    from reparam.training import Run

    return model_of(Run.open(directory), which)
