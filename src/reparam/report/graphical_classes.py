"""Which class each row is of: discrete latents of a graphical model, and columns of categories with gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.report import plane
from reparam.report.chart import HUES
from reparam.report.graphical import View, view
from reparam.report.pieces import Figure, Section, Subject
from reparam.report.tables import crossed

__all__ = ["MOST", "classes", "told"]

#: The most classes that are shown.
MOST = 10


def classes(subject: Subject) -> Section | None:
    """Who is in which class: of a discrete latent, or of a column with gaps, against what was hidden or is seen besides."""
    seen = view(subject)
    model, x = seen.model, seen.x
    name = _class_node(seen)
    if name is None:
        return None
    found = model.posterior(name, n=400, source=subject.source)
    p = found.probs(name).double()
    names = found.categories.get(name) or tuple(f"{name} {k}" for k in range(p.shape[1]))
    guess = p.argmax(1)
    there = seen.read()[1].get(name, torch.zeros(len(p), dtype=torch.bool))
    truth = x[:, model.columns.places[name][0]] if name in model.columns.places else torch.full((len(p),), torch.nan)
    hidden = ~there & ~truth.isnan()
    figures = []
    lead = f"The most probable {name} of each row in which it is not observed, and how sure that is."
    wrong = torch.zeros(len(p), dtype=torch.bool)
    if bool(hidden.any()):
        wrong = hidden & (guess != truth.nan_to_num(nan=-1).long())
        right = int(hidden.sum()) - int(wrong.sum())
        caption = f"Of {int(hidden.sum())} rows whose {name} was hidden {right} are found right, {right / int(hidden.sum()):.0%}."
        table = crossed(truth[hidden].long(), guess[hidden], names, names, f"{name}, hidden", "found")
        figures.append(Figure(caption, [table]))
    elif (beside := _other(subject, seen, name)) is not None:
        what, codes, kinds = beside
        known = codes >= 0
        table = crossed(codes[known], guess[known], kinds, names, what, name)
        figures.append(Figure(f"Rows by {what}, and by their most probable {name}.", [table]))
    open_rows = ~there
    if scattered := _scattered(model, name, x, guess, names, wrong, open_rows):
        figures.append(scattered)
    sure = p[open_rows].max(1).values
    shares = ", ".join(f"{float((sure >= level).double().mean()):.0%} above {level}" for level in (0.9, 0.99)) if len(sure) else ""
    lead += f" The probability of that class is {float(sure.mean()):.2f} on average; in {shares}." if shares else ""
    return Section("Who is in which class", lead, figures) if figures else None


def _class_node(view: View) -> str | None:
    """The first discrete node of rows with few values that is not observed everywhere, and that a row tells something of."""
    model, (_, there) = view.model, view.read()
    for step in model.plan():
        seen = there.get(step.node)
        if step.node in model.enumerated and not model.nodes[step.node].shared and (seen is None or not bool(seen.all())):
            sizes = model.plan().laws[step.node].enumerate_support(expand=False).shape
            if 2 <= sizes[0] <= MOST and len(sizes) == 2:
                return str(step.node)
    return None


def _other(subject: Subject, view: View, name: str) -> tuple[str, Tensor, tuple[str, ...]] | None:
    """Labels of the rows that the model has not seen, or a column of few categories: a name, codes, and what they mean."""
    train, model, x = subject.splits.train, view.model, view.x
    if train.y is not None and train.classes is not None and len(train.classes) <= MOST:
        order = torch.arange(len(train)) if train.rows is None else train.rows.argsort()
        order = order[: len(x)]
        return "label, which the model has not seen", train.places[order], train.classes
    for column, kinds in model.columns.categories.items():
        if column != name and len(kinds) <= MOST:
            return column, x[:, model.columns.names.index(column)].nan_to_num(nan=-1).long(), kinds
    return None


def _scattered(
    model: Any, name: str, x: Tensor, guess: Tensor, names: tuple[str, ...], wrong: Tensor, rows: Tensor
) -> Figure | None:
    """The two columns that tell most of the class, coloured by it."""
    reals = [i for i in model.columns.numbers if bool((~x[rows, i].isnan()).any())]
    best = sorted(reals, key=lambda i: -told(x[rows, i], guess[rows]))[:2]
    if len(best) < 2:
        return None
    shown = rows & ~x[:, best].isnan().any(1)
    points, kinds = x[shown][:, best].numpy(), np.array(names)[guess[shown].numpy()]
    errors = x[shown & wrong][:, best].numpy()
    columns = (model.columns.names[best[0]], model.columns.names[best[1]])
    if len(points) < 2:
        return None
    chart = plane.scatter(
        "classes", "", f"Rows by {columns[0]} and {columns[1]}, coloured by {name}", points, plane.window(points), labels=kinds,
        ringed=errors if len(errors) else None, axes=columns,
    )  # fmt: skip
    caption = f"Rows in which {name} is not observed, by the columns that tell most of it; colours are what was found."
    caption += " Rings are where another one was hidden." if len(errors) else ""
    return Figure(caption, [chart], tuple(sorted(set(kinds.tolist()))), colours=HUES)


def told(values: Tensor, guess: Tensor) -> float:
    """The share of the variance of a column that lies between classes."""
    known = ~values.isnan()
    values, guess = values[known], guess[known]
    total = float(values.var(correction=0)) if len(values) else 0.0
    if total <= 0:
        return 0.0
    inside = sum(float(((part := values[guess == k]) - part.mean()).square().sum()) for k in guess.unique())
    return 1 - inside / (total * len(values))
