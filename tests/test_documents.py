"""Every Python block of the documentation runs; every `reparam` command in a shell block parses."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language):
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match[1] == language:
                line = text[: match.start()].count("\n") + 2
                yield pytest.param(match[2], line, id=f"{page.relative_to(ROOT)}:{line}")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")], ids=lambda page: page.name
)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """One after the other, as a reader would."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "documentation"}
    for block in blocks("python"):
        code, line = block.values
        if block.id.startswith(f"{page.relative_to(ROOT)}:"):
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)


@pytest.mark.parametrize(("code", "line"), list(blocks("bash")))
def test_commands_exist(code, line):
    from reparam.cli import main

    for command in code.splitlines():
        words = shlex.split(command, comments=True)
        if words[:1] == ["reparam"]:
            with pytest.raises(SystemExit) as stop:
                raise SystemExit(main([*words[1:], "--help"]))
            assert stop.value.code in (0, None), command
        elif words and words[0].startswith(("./scripts/", ".ci/")):
            assert (ROOT / words[0]).exists(), command


def test_pages_were_found():
    assert any(page.name == "README.md" for page in PAGES)


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", page.read_text(encoding="utf-8")):
            path = target[0] or target[1]
            if "://" not in path and not path.startswith("mailto:"):
                assert (page.parent / path).exists(), f"{page.name}: {path}"
