"""Make the picture that chats and feeds show for a link to the book: `python -m tools.social_picture`.

Chromium draws `book_assets/social.svg` into `book_assets/static/social.png`, which is committed, so that a build
needs no browser. `tools/page_head.py` names it in every page.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "book_assets" / "social.svg"
TARGET = ROOT / "book_assets" / "static" / "social.png"
SIZE = (1200, 630)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def main() -> None:
    """Write the picture and say how large it is."""
    TARGET.write_bytes(drawn())
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size / 1000:.0f} kB")


def drawn() -> bytes:
    """The drawing as PNG, 1200 by 630 pixels.

    Raises:
        FileNotFoundError: this machine has no Chromium.
    """
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise FileNotFoundError(f"no browser: install one of {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        page.set_content(f'<body style="margin: 0">{SOURCE.read_text(encoding="utf-8")}</body>')
        picture = page.screenshot(omit_background=False)
        browser.close()
    return picture


if __name__ == "__main__":
    main()
