"""The picture of a report for the README: a page of the demo's run, photographed by headless Chromium.

python docs/pictures/shoot.py runs/demo/report.html
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

# Where the page is cut into two columns, in pixels of a window this wide.
WIDTH, LEFT, RIGHT = 1100, (0, 1823), (1823, 3590)


def photograph(page: Path) -> Image.Image:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium found: install one")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "page.png"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        size = [f"--window-size={WIDTH},4400", f"--user-data-dir={folder}/profile", f"--screenshot={picture}"]
        subprocess.run([browser, *flags, *size, page.resolve().as_uri()], check=True, capture_output=True)
        return Image.open(picture).convert("RGB").copy()


def main() -> None:
    shot = photograph(Path(sys.argv[1]))
    left, right = (shot.crop((0, top, WIDTH, bottom)) for top, bottom in (LEFT, RIGHT))
    both = Image.new("RGB", (2 * WIDTH, max(left.height, right.height)), shot.getpixel((5, 5)))
    both.paste(left, (0, 0))
    both.paste(right, (WIDTH, 30))
    small = both.resize((both.width * 7 // 10, both.height * 7 // 10), Image.Resampling.LANCZOS)
    small.save(Path(__file__).with_name("report.png"), optimize=True)


if __name__ == "__main__":
    main()
