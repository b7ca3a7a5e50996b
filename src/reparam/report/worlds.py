"""What a world model foresees, what surprises it, what it imagines by itself, and how it uses its latents."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator

from reparam.report.chart import MUTED, SERIES, Chart
from reparam.report.images import grid
from reparam.report.overtime import lively, over_time
from reparam.report.pieces import Figure, Section
from reparam.report.recorded import Recorded

__all__ = ["foresight", "imagined", "latents", "surprise"]

# Imagined continuations, numbers of a datum that are shown, sequences of each kind, and pictures in a row.
_SAMPLES, _SHOWN, _DRAWS, _ACROSS = 64, 6, 6, 12


def foresight(subject: Recorded, evaluation: Any) -> Section | None:
    """A sequence against what the model imagines after its beginning, and errors by how far ahead that is."""
    steps, context = subject.batch.mask.shape[1], subject.context
    if steps < 2:
        return None
    found = subject.model.open_loop(subject.one, context, samples=_SAMPLES, source=subject.source())
    acts = subject.batch.action.shape[-1:] != (0,)
    given = ", knowing the actions that were taken" if acts else ""
    lead = (
        f"The model sees the first {context} of {steps} steps of the first {subject.what}, and goes on alone from there{given}: "
        "what it imagines is drawn, step by step, from its own prior."
    )
    figures = [_film(subject, found)] if subject.image else [_courses(subject, found)]
    if found.reward is not None and not bool(subject.one.reward.isnan().all()):
        figures.append(_rewards(subject, found.reward))
    if len(getattr(evaluation, "error", ())) > 1:
        figures.append(_errors(evaluation))
    return Section("Foresight", lead, figures)


def _courses(subject: Recorded, found: Any) -> Figure:
    """Each number: the truth, its reconstruction where it was seen, and the mean and spread of what is imagined."""
    context, steps = subject.context, subject.batch.mask.shape[1]
    truth = subject.one.observation[0].flatten(1).double().numpy()
    seen = found.reconstruction[0].flatten(1).double().numpy()
    ahead = found.imagined[:, 0].flatten(2).double()
    mean, spread = ahead.mean(0).numpy(), ahead.std(0).numpy()
    places = lively(truth, _SHOWN)
    pictures = []
    for place in places:
        blank = np.full(steps, np.nan)
        series = {"truth": truth[:, place], "reconstruction": blank.copy(), "imagined": blank.copy()}
        series["reconstruction"][:context] = seen[:context, place]
        series["imagined"][context:] = mean[:, place]
        low, high = blank.copy(), blank.copy()
        low[context:], high[context:] = mean[:, place] - spread[:, place], mean[:, place] + spread[:, place]
        off = float(np.sqrt(np.mean((mean[:, place] - truth[context:, place]) ** 2)))
        name = subject.names[place]
        described = f"{name}, true and imagined after {context} of {steps} steps: root mean square error {off:.3g}"
        title = name[0].upper() + name[1:]
        bands = [None, None, (low, high)]
        pictures.append(over_time(f"ahead-{place}", title, described, series, bands=bands, mark=context - 0.5, size=(2.9, 1.9)))
    which = "" if len(places) == len(subject.names) else f" The {len(places)} of {len(subject.names)} numbers that move most."
    caption = (
        f"After the dotted line nothing is seen any more. The band is a standard deviation of {_SAMPLES} imagined courses, each "
        f"the mean of the data in its states.{which}"
    )
    return Figure(caption, pictures, ("truth", "reconstruction", "imagined"), wide=True)


def _film(subject: Recorded, found: Any) -> Figure:
    """Rows of pictures: the truth, what is imagined, and the difference."""
    context, steps = subject.context, subject.batch.mask.shape[1]
    truth, seen, ahead = subject.one.observation[0], found.reconstruction[0], found.imagined[0, 0]
    told = torch.cat([seen[:context], ahead])
    at = np.unique(np.linspace(max(0, context - 3), steps - 1, _ACROSS).round().astype(int))
    rows = [subject.pictures(x[torch.from_numpy(at)].double()) for x in (truth, told)]
    rows.append(np.abs(rows[0] - rows[1]))
    ahead_from = int((at < context).sum())  # where a gap says that the model goes on alone
    apart = [np.insert(_enlarged(row), ahead_from, np.nan, axis=0) for row in rows]
    off = float(np.sqrt(np.mean((rows[0] - rows[1])[at >= context] ** 2)))
    shown = ", ".join(map(str, at.tolist()))
    described = f"Pictures at steps {shown}: true, imagined, and their difference, "
    described += f"with a root mean square of {off:.3g}"
    caption = (
        f"Above the truth, below it what the model shows: before the gap it has seen them, from step {context} on it is one "
        f"imagined course; last how far they are apart. Steps {shown}."
    )
    return Figure(caption, [grid(np.concatenate(apart), len(at) + 1, described, gap=4)], wide=True)


def _rewards(subject: Recorded, reward: torch.Tensor) -> Figure:
    context, steps = subject.context, subject.batch.mask.shape[1]
    told = reward[:, 0].double()
    blank = np.full(steps, np.nan)
    came = subject.one.reward[0].double().masked_fill(subject.one.first[0], np.nan)  # none leads to where an episode begins
    series = {"truth": came.numpy(), "reconstruction": blank, "imagined": blank.copy()}
    series["imagined"][context:] = told.mean(0).numpy()
    low, high = blank.copy(), blank.copy()
    low[context:], high[context:] = (told.mean(0) - told.std(0)).numpy(), (told.mean(0) + told.std(0)).numpy()
    described = f"Reward by step: after {context} steps {came[context:].nansum():.4g} came in all, "
    described += f"and {told.mean(0).sum():.4g} were imagined"
    bands = [None, None, (low, high)]
    chart = over_time("ahead-reward", "Reward", described, series, bands=bands, mark=context - 0.5, size=(4.2, 2.4))
    colours = ("var(--series-0)", "var(--series-2)")
    return Figure("The reward of each step, as it came and as it was imagined.", [chart], ("truth", "imagined"), colours=colours)


def _errors(evaluation: Any) -> Figure:
    """The error of the mean of what is imagined, by how far ahead, beside simple guesses."""
    ahead = np.arange(1, len(evaluation.error) + 1)
    guesses = {"imagined": evaluation.error, "the last datum again": evaluation.error_last, "the mean": evaluation.error_mean}
    last = ", ".join(
        f"{name} {values[0]:.3g} one step ahead and {values[-1]:.3g} {len(ahead)} ahead" for name, values in guesses.items()
    )
    chart = Chart("ahead-error", f"Error by steps ahead: {last}", width=4.2, height=2.4)
    with chart as axis:
        for values in guesses.values():
            axis.plot(ahead, values, linewidth=1.6)
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.set_title("Error by steps ahead")
        axis.set_xlabel("steps ahead")
    caption = f"Root mean square error of the mean of what is imagined, of {evaluation.rows} sequences, in {evaluation.unit}."
    return Figure(caption, [chart.svg], tuple(guesses))


def surprise(subject: Recorded) -> Section:
    """What each step told the model that it had not expected, in nats."""
    found = subject.model.surprise(subject.batch, subject.source()).double().numpy()
    one, mean = found[0], found.mean(0)
    most = int(one.argmax())
    described = (
        f"Divergence of the posterior from the prior by step: in the first {subject.what} {one.mean():.3g} nats a step, most at "
        f"step {most} with {one[most]:.3g}; over all {mean.mean():.3g}"
    )
    chart = over_time("surprise", "Surprise", described, {"first": one, "mean": mean}, size=(4.2, 2.4), label="step")
    lead = (
        "The divergence of what the model believes of a state, having seen the datum, from what it expected before: the nats that "
        "a step tells. A step that the model foresees costs none."
    )
    key = (f"first {subject.what}", f"mean of {len(found)}")
    return Section(
        "Surprise", lead, [Figure(f"The most that one step told was {one[most]:.3g} nats, at step {most}.", [chart], key)]
    )


def imagined(subject: Recorded) -> Section:
    """Whole sequences from the model alone, beside recorded ones."""
    steps = subject.batch.mask.shape[1]
    acts = getattr(subject.model, "behaviour", None) is not None
    actor = " Its actor acts in them." if acts else ""
    lead = f"Sequences of {steps} steps that the model imagines from nothing, not having seen anything.{actor}"
    if subject.image:
        made = subject.model.sample(4, subject.source(), length=steps)
        at = np.unique(np.linspace(0, steps - 1, min(_ACROSS, steps)).round().astype(int))
        images = subject.pictures(made[:, torch.from_numpy(at)].flatten(0, 1))
        shown = grid(_enlarged(images), len(at), "Imagined sequences, a row each", gap=4)
        return Section(
            "Imagined",
            lead,
            [Figure(f"A row each, steps {', '.join(map(str, at.tolist()))}; means given the states.", [shown], wide=True)],
        )
    made = subject.model.sample(_DRAWS, subject.source(), length=steps, noisy=True).flatten(2).double().numpy()
    real = subject.batch.observation[:_DRAWS].flatten(2).double().numpy()
    places, pictures = lively(real.reshape(-1, real.shape[-1]), _SHOWN), []
    for place in places:
        name = subject.names[place]
        low, high = min(made[..., place].min(), real[..., place].min()), max(made[..., place].max(), real[..., place].max())
        described = f"{name} of {len(made)} imagined sequences, from {made[..., place].min():.3g} to "
        described += f"{made[..., place].max():.3g}, behind them {len(real)} real ones"
        chart = Chart(f"imagined-{place}", described, width=2.9, height=1.9)
        with chart as axis:
            axis.plot(real[..., place].T, color=MUTED, linewidth=0.7, alpha=0.5)
            axis.plot(made[..., place].T, color=SERIES[2], linewidth=0.9, alpha=0.8)
            room = 0.05 * (high - low) or 1.0
            axis.set_ylim(low - room, high + room)
            axis.margins(x=0.02)
            axis.set_title(name[0].upper() + name[1:], parse_math=False)
            axis.set_xlabel("step")
        pictures.append(chart.svg)
    key, colours = ("imagined", subject.what), ("var(--series-2)", "var(--muted)")
    return Section(
        "Imagined", lead, [Figure("Each datum is drawn from its law given the state.", pictures, key, wide=True, colours=colours)]
    )


def latents(subject: Recorded) -> Section | None:
    """How much of its latents the model uses."""
    found = subject.model.latents(subject.batch, subject.source())[subject.batch.mask].double()
    if found.dim() == 2:
        spread = found.std(0, correction=0).sort(descending=True).values.numpy()
        active = int((spread**2 > 0.01).sum())
        chart = Chart(
            "latent-spread",
            f"Standard deviations of the posterior means of {len(spread)} latents: {active} are active",
            width=4.2,
            height=2.4,
        )
        with chart as axis:
            axis.bar(np.arange(1, len(spread) + 1), spread, color=SERIES[0], width=0.8)
            axis.set_title("How far the mean of each latent moves")
            axis.set_xlabel("latent, those that move most first")
            axis.grid(visible=False, axis="x")
        lead = f"{active} of {len(spread)} latents are active: the variance of their posterior mean over the data is above 0.01."
        return Section("Latents", lead, [Figure("", [chart.svg])])
    shares = found.mean(0)
    used = torch.distributions.Categorical(probs=shares).perplexity()
    order = used.argsort(descending=True)
    sorted_shares = shares[order].sort(-1, descending=True).values.numpy()
    described = f"Shares of {shares.shape[1]} categories of {shares.shape[0]} latents: {used.mean():.2f} in use on average, "
    described += f"from {used.min():.2f} to {used.max():.2f}"
    chart = Chart("latent-shares", described, width=4.2, height=2.8)
    with chart as axis:
        bottom = np.zeros(len(used))
        for place in range(shares.shape[1]):
            axis.bar(
                np.arange(1, len(used) + 1),
                sorted_shares[:, place],
                bottom=bottom,
                color=SERIES[place % 2],
                alpha=0.9 - 0.5 * place / shares.shape[1],
                width=0.85,
            )
            bottom += sorted_shares[:, place]
        axis.set_title("Shares of the categories")
        axis.set_xlabel("latent, the most varied first")
        axis.set_ylim(0, 1)
        axis.grid(visible=False)
    lead = (
        f"Of {shares.shape[1]} categories a latent uses {used.mean():.1f} on average (the exponential of the entropy of their "
        "shares over the data)."
    )
    return Section(
        "Latents", lead, [Figure("A column for each latent; the more it is cut up, the more categories are in use.", [chart.svg])]
    )


def _enlarged(images: np.ndarray) -> np.ndarray:
    """Small pictures N x C x H x W by a whole factor, so that the gaps between them stay narrow."""
    factor = max(1, 160 // images.shape[-2])
    enlarged: np.ndarray = images.repeat(factor, -2).repeat(factor, -1)
    return enlarged
