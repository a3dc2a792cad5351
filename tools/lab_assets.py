"""Write the Induction Lab for the pages of the book: its script, what it shows at once, and weights by frame.

All files are classic scripts, so that pages opened from disk may load them. `tools/build_book.py` calls it.
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

from course_lib.data import load_tokenizer
from course_lib.lab import lab_manifest, recorded_lab
from course_lib.lab_manifest import FOLDER, lab_script, preview
from course_lib.lab_weights import block

ENTRY = "export default "


def write(target: Path) -> None:
    """Write everything below the folder `target`: `lab-loader.js`, `lab.css` and the folder `lab`."""
    folder = target / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FOLDER / "loader.js", target / "lab-loader.js")
    shutil.copyfile(FOLDER / "lab.css", target / "lab.css")
    (folder / "lab.js").write_text(classic_script(lab_script()), encoding="utf-8")
    model, frames, records = recorded_lab()
    told = lab_manifest(model, frames, records, load_tokenizer())
    told["previews"] = {}
    for name, example in told["examples"].items():
        ids = example.get("ids") or [0, *load_tokenizer().encode(example["text"]).ids]
        told["previews"][name] = preview(model, ids)
    (folder / "lab-data.js").write_text(registered("manifest", told), encoding="utf-8")
    for step, weights in frames.items():
        content = base64.b64encode(block(weights)[1]).decode()
        (folder / f"weights-{step}.js").write_text(registered(str(step), content), encoding="utf-8")


def classic_script(module: str) -> str:
    """The module as a script that sets `window.InductionLab` to what the module exports.

    Raises:
        ValueError: the module does not export exactly one object, as its default.
    """
    if module.count("export ") != 1 or module.count(ENTRY) != 1:
        raise ValueError(f"the module of the lab must have one `{ENTRY.strip()}` and no other export")
    return f"(() => {{\n{module.replace(ENTRY, 'window.InductionLab = ')}\n}})();\n"


def registered(name: str, value: object) -> str:
    """A script that hands `value` to the loader under `name`."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return f"window.inductionLabData[{json.dumps(name)}] = {text};\n"
