"""A Gaussian-latent linear VAE of a few lines, and data for it: what the training tests train, here and in other processes."""

import ast
import atexit
import math
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from reparam.errors import UserError
from reparam.noise import NORMAL, Noise
from reparam.training import Interrupted, Loss, Run, Training, fit

LOG_2PI = math.log(2 * math.pi)


class Toy(nn.Module):
    """x ~ N(decode(z), 1), z ~ N(0, I), q(z | x) = N(encode(x), scale²); dropout makes it use torch's own generator."""

    def __init__(self, size=6, latent=2, dropout=0.1):
        super().__init__()
        self.encode, self.decode = nn.Linear(size, latent), nn.Linear(latent, size)
        self.log_scale = nn.Parameter(torch.zeros(latent))
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch, source=None):
        loc, scale = self.encode(self.dropout(batch)), self.log_scale.exp()
        noise = Noise(NORMAL, loc.shape[1:], loc.dtype, loc.device).draw(len(loc), source=source)
        z = loc + scale * noise
        if self.training:
            self.noise = noise
        reconstruction = -0.5 * ((batch - self.decode(z)) ** 2 + LOG_2PI).sum(-1).mean()
        kl = 0.5 * (loc**2 + scale**2 - 1 - 2 * self.log_scale).sum(-1).mean()
        elbo = reconstruction - kl
        parts = {"elbo": elbo, "reconstruction": reconstruction, "kl": kl}
        return Loss(-elbo, {name: part.detach() for name, part in parts.items()})


def toy(dropout=0.1, **sizes):
    torch.manual_seed(11)
    return Toy(dropout=dropout, **sizes)


def data(n=64, size=6, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=generator) @ torch.randn(2, size, generator=generator)


def settings(**changes):
    return Training(**{"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "device": "cpu", "threads": 1} | changes)


def record(config, **data):
    return {"model": {"name": "toy"}, "training": vars(config), "data": {"digest": "abc"} | data}


def train(directory, config=None, model=None, *, progress=False, rows=64, **create):
    """Train, or go on training, the toy; returns the model and the result."""
    config, model = config or settings(), model or toy()
    with Run.create(directory, record(config), **create) as run:
        return model, fit(model, data(rows), data(32, seed=4), config, run, progress=progress)


def say(line):
    """In one write, which a pipe does not tear: `print` may write the line and its end apart, and processes share the pipe."""
    os.write(1, f"{line}\n".encode())


def group_threads():
    """The threads of a process group, where Linux lists them."""
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it ended meanwhile
            names.append(path.read_text().strip())
    return [name for name in names if "gloo" in name]


def say_what_is_left():
    """At Python's end: such threads would abort the process. One that was joined may be listed for a moment more."""
    until = time.monotonic() + 5
    while group_threads() and time.monotonic() < until:
        time.sleep(0.01)
    say(f"left: {group_threads()}")


if __name__ == "__main__":  # a process of its own: toy.py DIRECTORY [name=value …], where a value is a Python literal
    directory, *given = sys.argv[1:]
    changes = {name: ast.literal_eval(value) for name, value in (text.split("=") for text in given)}
    rank = os.environ.get("RANK", "0")
    atexit.register(say_what_is_left)  # before training registers anything: it is called last
    for number in (signal.SIGINT, signal.SIGTERM):  # training listens; later, a process that stopped with the other may get its own
        signal.signal(number, signal.SIG_IGN)
    model = toy()
    torch.manual_seed(int(rank))  # dropout draws from torch's own generator: other masks on each process
    try:
        _, result = train(Path(directory), settings(**changes), model, progress=True)
        say(f"process {rank} {result.status} {result.epochs} last noise {model.noise[0].tolist()}")
    except Interrupted as stop:
        say(f"process {rank} {stop}")
        sys.exit(stop.exit_code)
    except UserError as error:
        say(f"process {rank} {error}")
        sys.exit(error.exit_code)
