"""Pages from templates that share a style sheet."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

__all__ = ["render"]


def render(template: str, **values: Any) -> str:
    """A page from a template of this package; texts are escaped, but for the style sheet and what the template calls safe."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def text(name: str) -> str:
        return files("reparam.report").joinpath(name).read_text(encoding="utf-8")

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text(template)).render(style=Markup(text("style.css")), **values)
