"""Reports of flows: whole, self-contained, and made of what the flow can do."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from reparam.data import from_tensor
from reparam.models import MODELS
from reparam.models.trained import DataOptions
from test_report import check
from test_report_models import FRAME, page_of, small, titles, trained


@pytest.fixture(scope="module")
def moons(tmp_path_factory):
    run = trained(tmp_path_factory.mktemp("moons"), "flow", {"transforms": 2, "hidden": (16,)}, data="moons")
    return run, page_of(run)


def test_a_flow_of_the_plane(moons):
    run, page = moons
    assert check(page) == [*FRAME[0], "Noise into data", "Density", "Samples", "Is it right?", *FRAME[1]]
    assert "Flow on moons" in page
    assert "x = g(θ, ε)" in page
    assert "higher is better" in page
    assert len(page) < 1.5e6
    assert page_of(run) == page


def test_the_heat_map_is_the_density(moons):
    """The brightest cell of the picture is where the density of the flow is greatest, and it is drawn the right way up."""
    from reparam.models.trained import data_of, model_of
    from reparam.report import plane

    run, page = moons
    heat = re.search(r'aria-label="Heat map of the density.*?</svg>', page, re.DOTALL)[0]
    picture = re.search(r'href="data:image/png;base64,([^"]+)"', heat)[1]
    image = Image.open(io.BytesIO(base64.b64decode(re.sub(r"\s", "", picture))))
    alpha = np.asarray(image)[..., 3].astype(float)
    frame = plane.window(data_of(run).test.x.double().numpy())
    at = torch.from_numpy(plane.lattice(frame, len(alpha))).float()
    with torch.no_grad():
        density = model_of(run).law().log_prob(at).exp().reshape(alpha.shape).numpy()
    drawn, upside_down = (np.corrcoef(alpha.ravel(), values.ravel())[0, 1] for values in (density[::-1], density))
    # matplotlib writes the rows as they are, and turns the picture by its transform, or turns the rows.
    turned = "scale(1 -1)" in heat or re.search(r"matrix\([^)]*-", heat) is not None
    assert (upside_down if turned else drawn) > 0.8 > (drawn if turned else upside_down) + 0.05


@pytest.mark.parametrize(
    ("config", "columns", "wanted"),
    [
        ({"conditional": True}, 2, ["Noise into data", "Density", "Samples", "Is it right?"]),
        ({}, 1, ["Density", "Samples", "Is it right?"]),
        ({"conditional": True}, 1, ["Density", "Samples", "Is it right?"]),
        ({"coupling": True}, 5, ["Samples", "Is it right?"]),
        ({"conditional": True}, 5, ["Samples", "Is it right?"]),
    ],
)
def test_flows_of_columns(config, columns, wanted):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, columns, generator=generator)
    data = from_tensor(x, torch.arange(120) % 3, name="made")
    assert titles(*small("flow", {"transforms": 2, "hidden": (8,), **config}, data)) == wanted


def test_a_flow_of_pictures_goes_from_noise_to_noise():
    generator = torch.Generator().manual_seed(0)
    data = from_tensor(torch.randint(0, 4, (60, 1, 4, 4), generator=generator), name="made", values="counts", levels=3)
    model, splits = small("flow", {"transforms": 1, "hidden": (8,), "coupling": True}, data)
    assert titles(model, splits)[:2] == ["Noise into data", "Samples"]


@pytest.mark.parametrize("estimator", ["pathwise", "score"])
def test_a_flow_that_was_fitted_to_a_target(tmp_path, monkeypatch, estimator):
    monkeypatch.setattr("reparam.report.target._DRAWS", 8)
    config = {"target": "ring", "transforms": 2, "hidden": (8,), "estimator": estimator}
    page = page_of(trained(tmp_path, "flow", config, data="none"))
    assert check(page) == [*FRAME[0], "Noise into data", "Fit", "What the trick buys", *FRAME[1]]
    assert "Flow fitted to ring" in page
    assert "log-normaliser, 2.651" in page
    assert "mirrored pairs (antithetic)" in page
    bars = re.search(r'aria-label="total variance of the gradient: ([^"]+)"', page)[1]
    assert re.findall(r"([^,]+) · this run", bars) == [" log p held (the trick)" if estimator == "pathwise" else " score function"]


def test_a_target_of_many_columns(monkeypatch):
    monkeypatch.setattr("reparam.report.target._DRAWS", 4)
    kind, settings = MODELS["flow"].load()
    _, splits = DataOptions(data="none").load()
    model = kind.for_data(settings(target="funnel", transforms=1, hidden=(8,)), splits.train).eval()
    assert titles(model, splits) == ["Fit", "What the trick buys"]
    model.target = None  # as for a density of the user's own, which a file never imports
    model.config.__dict__["target"] = "mine:density"
    assert titles(model, splits) == ["Fit"]
