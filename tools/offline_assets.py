"""Write what the book needs so that no page asks a foreign host for anything: Vega and MathJax.

Both come out of installed, pinned packages (`vl-convert-python`, `sphinx-mathjax-offline`), so nothing is downloaded
and nothing generated is committed. `tools/build_book.py` calls it.
"""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

MATHJAX_PACKAGE = "sphinx-mathjax-offline"
# The component for TeX input, what it loads on demand for rarer commands, and its fonts.
MATHJAX_PARTS = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts")


def write(target: Path) -> None:
    """Write all assets into the folder `target` and say how large they are."""
    write_vega(target)
    write_mathjax(target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"offline assets: {size / 1e6:.1f} MB in {target}")


def write_vega(target: Path) -> None:
    """Write `vega-bundle.js` (Vega, Vega-Lite, Vega-Embed) and `vega-versions.js` for the installed altair.

    Altair's HTML loads each library whose version is not in `VEGA_DEBUG` from a foreign host. `vega-versions.js`
    fills `VEGA_DEBUG`, so nothing is fetched; `charts.js` then loads the bundle when the first chart asks for it.
    """
    import vl_convert

    display = altair_display()
    target.mkdir(parents=True, exist_ok=True)
    wanted = ".".join(display.VEGALITE_VERSION.split(".")[:2])
    offered = vl_convert.get_vegalite_versions()
    if wanted not in offered:
        raise ValueError(f"altair needs Vega-Lite {wanted}; the installed vl-convert-python has {', '.join(offered)}")
    bundle = vl_convert.javascript_bundle(vl_version=wanted)
    # The bundle sets window.vegaEmbed. charts.js wraps that function and must stay the one that charts call.
    wrapped = f"(function () {{\nconst kept = window.vegaEmbed;\n{bundle}\n"
    wrapped += "window.bundledVegaEmbed = window.vegaEmbed;\nwindow.vegaEmbed = kept;\n})();\n"
    (target / "vega-bundle.js").write_text(wrapped, encoding="utf-8")
    versions = {
        "vega_version": display.VEGA_VERSION,
        "vegalite_version": display.VEGALITE_VERSION,
        "vegaembed_version": display.VEGAEMBED_VERSION,
    }
    (target / "vega-versions.js").write_text(f"window.VEGA_DEBUG = {json.dumps(versions)};\n", encoding="utf-8")


def altair_display() -> object:
    """The module of the installed altair that holds the versions it asks for; altair 5 and 6 keep it in two places."""
    for version in ("v6", "v5"):
        try:
            return import_module(f"altair.vegalite.{version}.display")
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError("altair is not installed, or newer than this script: run `make book`, which installs it")


def write_mathjax(target: Path) -> None:
    """Copy the parts of MathJax 3 that the book uses into `target/mathjax`."""
    source = mathjax_source()
    for part in MATHJAX_PARTS:
        origin, copy = source / part, target / "mathjax" / part
        if not origin.exists():
            raise FileNotFoundError(f"{MATHJAX_PACKAGE} has no {part}: its layout changed, adapt MATHJAX_PARTS")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            shutil.copytree(origin, copy, dirs_exist_ok=True)
        else:
            shutil.copyfile(origin, copy)


def mathjax_source() -> Path:
    """The folder of MathJax files inside the installed package, whose name is no Python identifier."""
    try:
        package = distribution(MATHJAX_PACKAGE)
    except PackageNotFoundError:
        raise ModuleNotFoundError(f"{MATHJAX_PACKAGE} is not installed: run `make book`, which installs it") from None
    return Path(package.locate_file(MATHJAX_PACKAGE)) / "static" / "mathjax"
