"""Make the gallery again: the report of `tiny`, the comparison of its ladder, heads for `tiny`.

    python examples/gallery.py

Runs that are finished are not repeated. The pictures need playwright and Debian's chromium.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

RUNS, HEADS = Path("runs") / "ladder", Path("runs") / "heads" / "tiny"
GALLERY = Path(__file__).parent / "gallery"
WIDTH = 1180
MARGINS = {"x": -24, "y": -8, "width": 48, "height": 32}


def main() -> None:
    """Sweep over the ladder, train heads, copy pages and figures, photograph two pages."""
    sweep = ["probekit", "sweep", "--family", "tiny", "--output", str(RUNS)]
    heads = ["probekit", "heads", "--model", "tiny", "--epochs", "2", "--seeds", "3"]
    heads += ["--output", str(HEADS)]
    for command in (sweep, heads):
        subprocess.run([sys.executable, "-m", *command], check=True)
    GALLERY.mkdir(exist_ok=True)
    shutil.copyfile(RUNS / "tiny-m" / "report.html", GALLERY / "tiny.html")
    shutil.copyfile(RUNS / "compare.html", GALLERY / "ladder.html")
    shutil.copyfile(HEADS / "report.html", GALLERY / "heads.html")
    report = ["probekit", "report", str(RUNS / "tiny-m"), "--figures"]
    subprocess.run([sys.executable, "-m", *report], check=True)
    for figure, positions in (("bits", "ceiling"), ("share", "all")):
        drawn = RUNS / "tiny-m" / "figures" / f"curves-{figure}-{positions}.png"
        shutil.copyfile(drawn, GALLERY / f"{figure}-by-layer.png")
    with sync_playwright() as playwright:
        options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
        with playwright.chromium.launch(**options) as browser:
            page = browser.new_page(viewport={"width": WIDTH, "height": 900})
            photograph(page, "tiny", "#verdict")
            photograph(page, "ladder", "#scale")
    for path in sorted(GALLERY.iterdir()):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def photograph(page: Page, name: str, part: str) -> None:
    """Write a picture of a part of a page of the gallery beside it."""
    page.goto((GALLERY / f"{name}.html").resolve().as_uri())
    box = page.locator(part).bounding_box()
    clip = {name: box[name] + by for name, by in MARGINS.items()}
    page.screenshot(path=GALLERY / f"{name}.png", clip=clip, full_page=True)


if __name__ == "__main__":
    main()
