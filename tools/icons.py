"""Write the icons of the pages as one small style sheet, `icons.css`, out of the theme's own files.

The theme draws its icons with a script that carries all two thousand of them: more than half of a page's weight.
Here each icon that our pages show becomes a mask; tests/test_all_pages.py says which one is missing.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from urllib.parse import quote

ICONS = (
    "angle-left",
    "angle-right",
    "arrow-up",
    "bars",
    "chevron-down",
    "circle-half-stroke",
    "code",
    "download",
    "expand",
    "file",
    "file-pdf",
    "github",
    "lightbulb",
    "list",
    "magnifying-glass",
    "moon",
    "rocket",
    "sun",
    "xmark",
)
RULES = """\
/* Font Awesome Free, fontawesome.com, icons CC BY 4.0: the shapes of these few come out of the installed theme. */
.fa-solid, .fas, .fab {
  display: inline-block;
  flex: none;
  width: calc(var(--icon-width, 1) * 1em);
  height: 1em;
  background: currentColor;
  mask: var(--icon) center / contain no-repeat;
}
.fa-solid::before, .fas::before, .fab::before { content: none !important; }
@media (forced-colors: active) {
  .fa-solid, .fas, .fab { background: ButtonText; forced-color-adjust: none; }
}
"""


def write(target: Path) -> None:
    """Write `icons.css` into the folder `target`."""
    package = resources.files("pydata_sphinx_theme") / "theme" / "pydata_sphinx_theme" / "static" / "scripts"
    source = (package / "fontawesome.js").read_text(encoding="utf-8")
    target.mkdir(parents=True, exist_ok=True)
    (target / "icons.css").write_text(RULES + "".join(rule(name, source) for name in ICONS), encoding="utf-8")


def rule(name: str, source: str) -> str:
    """The style rule of one icon, from the theme's script.

    Raises:
        ValueError: the script has no icon of this name.
    """
    found = re.search(rf'[{{,]"?{re.escape(name)}"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"\]', source)
    if not found:
        raise ValueError(f"the theme's fontawesome.js has no icon {name!r}: take it off ICONS, or name it as it does")
    width, height, path = found.groups()
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><path d="{path}"/></svg>'
    ratio = int(width) / int(height)
    address = f"data:image/svg+xml,{quote(drawing, safe=' =:/')}"
    return f".fa-{name} {{ --icon: url('{address}'); --icon-width: {ratio:g}; }}\n"
