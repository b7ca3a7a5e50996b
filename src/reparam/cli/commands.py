"""The commands that look at a run: each is a function whose parameters are its flags."""

from __future__ import annotations

import json as json_
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Literal

from reparam.errors import BadInputError
from reparam.models import MODELS

__all__ = ["COMMANDS"]

Checkpoint = Literal["best", "last"]
Part = Literal["test", "validation", "train"]

# Data that go through a model at once.
_BATCH = 512


def evaluate(
    run: str,
    part: Part = "test",
    data: str | None = None,
    array: str | None = None,
    label: str | None = None,
    importance_samples: int = 200,
    checkpoint: Checkpoint = "best",
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json: bool = False,
) -> None:
    """How well the model of a run explains data, in nats per datum: ELBO, its terms, and log-likelihood by importance sampling.

    Args:
        run: the run's directory.
        part: which rows of the run's data.
        data: other data than the run's; all their rows.
        array: the array of a .npz file of other data.
        label: the column or array of other data that holds labels, which are left out.
        importance_samples: samples of noise for each datum; more make a bound tighter, or its estimate more exact.
        checkpoint: the weights with the best validation score, or the last.
        seed: of the noise.
        device: where to compute; auto takes a GPU where there is one.
        json: print JSON.
    """
    import torch

    from reparam.cli import opened
    from reparam.training.config import each

    _check_count("importance_samples", importance_samples)
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInputError("device is cuda, and torch finds no GPU: give device cpu")
    place = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    source = opened.noise(seed, place)
    model = opened.model(run, checkpoint).to(place)
    rows = opened.rows(run, part, data, array, label)
    with opened.fitting(model, rows) as x:
        found = model.evaluate(each(lambda tensor: tensor.to(place), x), k=importance_samples, source=source)
    of = f"the {part} set" if data is None else data
    what = "sequences" if rows.sequence else "data, nats per datum"
    lines = [f"On {of}, {found.rows} {what}:", *found.lines()]
    print(json_.dumps(asdict(found)) if json else "\n".join(lines))


def sample(
    run: str,
    output: str | None = None,
    n: int = 64,
    checkpoint: Checkpoint = "best",
    noise: Literal["fresh", "antithetic", "sobol"] = "fresh",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> None:
    """New data from the model of a run: a picture, a text, sounds, or an array x in their units. A model may have more flags.

    Args:
        run: the run's directory.
        output: file to write: .npz or .npy, .csv for tables, .png for images, .txt for texts; or for sounds a folder.
        n: how many.
        checkpoint: the weights with the best validation score, or the last.
        noise: the source of the noise: fresh; antithetic, in mirrored pairs; sobol, points of low discrepancy.
        seed: of the noise.
        options: those of the model.
    """
    import torch

    from reparam.cli import opened
    from reparam.cli.output import place, write_data
    from reparam.data.check import memory

    facts = opened.facts(run)
    path = place(output, "samples", facts, opened.source(run))
    _check_count("n", n)
    source = opened.noise(seed, kind=noise)
    model = opened.model(run, checkpoint)
    opened.able(model, "sample", run)
    if 2 * 4 * n * model.shape.numel() > memory() // 2:  # in chunks, and in one
        raise BadInputError(f"n is {n}: that many do not fit into memory: give fewer")
    chosen = dict(options or {})
    labels: Any = getattr(model, "labels", ())
    kinds: list[str] = []
    parts: list[torch.Tensor] = []
    for start in range(0, n, _BATCH):
        size = min(n - start, _BATCH)
        if len(labels):  # drawn here, so that each datum comes with its label
            asked = labels.given((options or {}).get("label"), size)
            chosen["label"] = labels.draw(size, source) if asked is None else asked
            kinds += [labels.names[i] for i in chosen["label"].tolist()]
        parts.append(model.sample(size, source, **chosen))
    write_data(path, {"x": torch.cat(parts).numpy()}, facts, kinds)
    print(path)


def reconstruct(
    run: str,
    output: str | None = None,
    n: int = 32,
    part: Part = "test",
    data: str | None = None,
    array: str | None = None,
    label: str | None = None,
    checkpoint: Checkpoint = "best",
) -> None:
    """Data and what the model of a run makes of them: pairs of pictures, texts or sounds, or arrays x and reconstruction.

    Args:
        run: the run's directory.
        output: file to write: .npz, .npy or for tables .csv for the reconstructions alone, .png for images, .txt for texts; or for
            sounds a folder.
        n: how many, from the first on.
        part: which rows of the run's data.
        data: other data than the run's.
        array: the array of a .npz file of other data.
        label: the column or array of other data that holds labels, which are left out.
        checkpoint: the weights with the best validation score, or the last.
    """
    import torch

    from reparam.cli import opened
    from reparam.cli.output import place, write_data
    from reparam.training.config import pick

    facts = opened.facts(run)
    path = place(output, "reconstructions", facts, data, opened.source(run))
    _check_count("n", n)
    model = opened.model(run, checkpoint)
    reconstruct = opened.able(model, "reconstruct", run)
    with opened.fitting(model, rows := opened.rows(run, part, data, array, label)) as inputs:
        places = torch.arange(min(n, len(rows)))
        made = torch.cat([reconstruct(pick(inputs, some)) for some in places.split(_BATCH)])
    write_data(path, {"reconstruction": made.numpy(), "x": rows.x[places].numpy()}, facts)
    print(path)


def encode(
    run: str,
    output: str = "codes.npz",
    part: Literal["test", "validation", "train", "all"] = "all",
    data: str | None = None,
    array: str | None = None,
    label: str | None = None,
    checkpoint: Checkpoint = "best",
) -> None:
    """The latents of data: q(z | x) in numbers, of a flow the noise, with the row, the part and the label of each datum.

    Args:
        run: the run's directory.
        output: file to write: .npz with arrays mean and scale, of discrete latents probability, of a flow noise, and row, part,
            label; or .parquet with columns mean_0, ..., label, of choices probability_0_0, .... The row is the place in the
            source of the data.
        part: which rows of the run's data.
        data: other data than the run's.
        array: the array of a .npz file of other data.
        label: the column or array of other data that holds the labels.
        checkpoint: the weights with the best validation score, or the last.
    """
    import numpy as np
    import torch

    from reparam.cli import opened
    from reparam.cli.output import destination, write_npz, write_parquet
    from reparam.training.config import pick, rows_of

    path = destination(output, (".npz", ".parquet"), data, opened.source(run))
    model = opened.model(run, checkpoint)
    describe = opened.able(model, "describe", run, "encode")
    names = ["data"] if data is not None else ["train", "validation", "test"] if part == "all" else [part]
    parts = [opened.rows(run, name, data, array, label) for name in names]
    found: list[dict[str, torch.Tensor]] = []
    for rows in parts:
        with opened.fitting(model, rows) as x:
            found += [describe(pick(x, places)) for places in torch.arange(rows_of(x)).split(_BATCH)]
    tables = {name: torch.cat([part[name] for part in found]).numpy() for name in found[0]}
    places = [np.arange(len(rows)) if rows.rows is None else rows.rows.numpy() for rows in parts]
    facts: dict[str, Any] = {"row": np.concatenate(places), "part": np.repeat(names, list(map(len, parts)))}
    labels = [rows.y for rows in parts if rows.y is not None]
    if len(labels) == len(parts):
        facts["label"] = torch.cat(labels).numpy()
    if path.suffix.lower() == ".npz":
        write_npz(path, {**tables, **facts})
    else:
        columns = {
            "_".join([name, *map(str, place)]): table[:, *place]
            for name, table in tables.items()
            for place in np.ndindex(table.shape[1:])
        }
        write_parquet(path, columns | facts)
    print(path)


def interpolate(run: str, a: str, b: str, steps: int = 8, output: str | None = None, checkpoint: Checkpoint = "best") -> None:
    """The way from one text to another, through the latents of a run's model.

    Args:
        run: the run's directory.
        a: the text to begin with.
        b: the text to end with.
        steps: texts in all; the first and the last are what the model makes of the two.
        output: .txt file to write; by default they are printed.
        checkpoint: the weights with the best validation score, or the last.
    """
    from reparam.cli.interpolate import run as interpolated

    interpolated(run, a, b, steps, output, checkpoint)


def impute(
    run: str,
    data: str = "",
    output: str | None = None,
    array: str | None = None,
    label: str | None = None,
    n: int = 1,
    guidance: float = 1.0,
    steps: int = 50,
    repeats: int = 10,
    checkpoint: Checkpoint = "best",
    seed: int = 0,
) -> None:
    """Fill in what is missing of data, NaN or empty cells of a .npz, .npy or .csv file, by the model of a run that can.

    Args:
        run: the run's directory.
        data: the file.
        output: file to write: .npz, .npy, or .csv for a table.
        array: the array of a .npz file.
        label: the column or array that holds the labels.
        n: how many fillings of each datum; of several an array, fillings first.
        guidance: how much what sets a label apart counts.
        steps: from noise to data.
        repeats: of each step, which bring what is drawn and what is known to agree: 10 lean to what is common, 40 hardly do.
        checkpoint: the weights with the best validation score, or the last.
        seed: of the noise.
    """
    from reparam.cli.impute import run as imputed

    _check_count("n", n)
    options = {"guidance": guidance, "steps": steps, "repeats": repeats}
    imputed(run, data, output, array, label, n, options, checkpoint, seed)


def report(run: str) -> None:
    """Write the page of pictures of a run anew.

    Args:
        run: the run's directory.
    """
    from reparam.report import write
    from reparam.training import Run

    print(write(Run.open(run)))


def models() -> None:
    """The models there are: what they train on by default, what that comes to, and how long it takes."""
    rows = [("model", "default data", "seconds on 2 cores", "what to expect", "")]
    rows += [(name, entry.data, str(entry.seconds), entry.expected, entry.summary) for name, entry in MODELS.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def compare(
    problem: tuple[str, ...] = ("all",),
    n: int = 16,
    draws: int = 1000,
    seconds: float = 10.0,
    out: str = "compare.html",
    seed: int = 0,
    threads: int = 1,
    json: bool = False,
) -> None:
    """Which gradient estimator: bias, variance, time and efficiency of each, as tables with a recommendation and as a page.

    Args:
        problem: quadratic, toy-0.45, toy-0.499, logistic, polynomial, or MODULE:FUNCTION of your own, which takes nothing and
            returns (f, q) or (f, q, estimators); several with commas between them; all is the standard ones.
        n: rows of an estimate, at which the cost is evaluated.
        draws: estimates of each estimator.
        seconds: the most that a problem takes.
        out: the page to write.
        seed: of the noise.
        threads: CPU threads; on one, times of small problems are steady.
        json: print JSON.
    """
    from reparam.cli import compare as compared
    from reparam.cli.output import destination

    for name, value in {"n": n, "threads": threads}.items():
        _check_count(name, value)
    if draws < 2 or not seconds > 0:
        raise BadInputError(f"draws is {draws}, seconds is {seconds:g}: give at least 2, and more than 0")
    compared.show(problem, n, draws, seconds, seed, threads, destination(out, (".html",), flag="--out"), json=json)


def paths(json: bool = False) -> None:
    """Every distribution: how it is made differentiable, from which noise, with what bias; or what to use instead.

    Args:
        json: print JSON.
    """
    from reparam.cli.paths import show

    show(json=json)


def predict(
    run: str,
    output: str | None = None,
    part: Part = "test",
    data: str | None = None,
    array: str | None = None,
    samples: int = 200,
    draws: int = 0,
    checkpoint: Checkpoint = "best",
    seed: int = 0,
) -> None:
    """What the model of a run predicts for data, and how sure it is: a table of means and of what they leave open.

    Args:
        run: the run's directory.
        output: file to write, .csv or .npz; predictions.csv by default.
        part: which rows of the run's data.
        data: other data than the run's; what is to be predicted need not be among their columns.
        array: the array of a .npz file of other data.
        samples: draws of the weights.
        draws: predictions drawn at random for each datum, beside the means.
        checkpoint: the weights with the best validation score, or the last.
        seed: of the noise.
    """
    from reparam.cli import predict as predicted

    _check_count("samples", samples)
    if draws < 0:
        raise BadInputError(f"draws is {draws}: give at least 0")
    predicted.run(run, output, part, data, array, samples, draws, checkpoint, seed)


def posterior(
    run: str,
    query: tuple[str, ...] = (),
    given: tuple[str, ...] = (),
    do: tuple[str, ...] = (),
    n: int = 4000,
    checkpoint: Checkpoint = "best",
    seed: int = 0,
    json: bool = False,
) -> None:
    """Ask the graphical model of a run: what is likely after the data it was trained on, or given what is known of a new row.

    Args:
        run: the run's directory.
        query: the variables to ask for, with commas between them; by default all that are not known.
        given: what is known of a new row, such as petal_length=1.4,petal_width=0.2.
        do: variables that are set from outside, whatever their causes say, such as treatment=1.
        n: draws.
        checkpoint: the weights with the best validation score, or the last.
        seed: of the noise.
        json: print JSON.
    """
    from reparam.cli import posterior as asked

    _check_count("n", n)
    asked.run(run, query, given, do, n, checkpoint, seed, json=json)


#: The commands by their names.
COMMANDS: dict[str, Callable[..., None]] = {
    "evaluate": evaluate,
    "sample": sample,
    "reconstruct": reconstruct,
    "encode": encode,
    "interpolate": interpolate,
    "impute": impute,
    "predict": predict,
    "posterior": posterior,
    "report": report,
    "list": models,
    "compare": compare,
    "paths": paths,
}


def _check_count(name: str, n: int) -> None:
    if n < 1:
        raise BadInputError(f"{name} is {n}: give at least 1")
