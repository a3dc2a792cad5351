"""Pack the text of the course: `python -m tools.make_corpus`, a minute and a half.

It reads the Python sources of the environment that runs it, and writes course_lib/assets/corpus: the tokens, what they
are, and the licences of the two projects. Another version of Python or PyTorch gives another text, and then the
recorded runs of the book, which were trained on this one, have to be made again.
"""

from __future__ import annotations

import json
import lzma
import platform
import shutil
import sysconfig
from datetime import date
from importlib.metadata import files as files_of
from importlib.util import find_spec
from pathlib import Path

import torch

from course_lib.data import CORPUS_FILE, corpus_from

# Two bytes a token: xz is told that every second byte is of the same kind.
PACKING = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 1, "pb": 1, "dict_size": 2**26}]
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "__pycache__"}


def source_folders() -> tuple[Path, Path]:
    """Where the Python sources of the standard library and of PyTorch are."""
    return Path(sysconfig.get_path("stdlib")), Path(find_spec("torch").origin).parent


def python_source_files() -> list[Path]:
    """The Python files of both, without tests and without tables of encodings."""
    return [
        path
        for folder in source_folders()
        for path in folder.rglob("*.py")
        if not LEFT_OUT & set(path.relative_to(folder).parts)
    ]


def licences() -> dict[str, Path]:
    """The licence files that have to travel with the text."""
    own = next(path for path in files_of("torch") if path.match("*.dist-info/licenses/LICENSE"))
    return {"LICENSE-python.txt": source_folders()[0] / "LICENSE.txt", "LICENSE-pytorch.txt": Path(own.locate())}


def main() -> None:
    """Write the tokens, `corpus.json` and the licences."""
    corpus = corpus_from(python_source_files())
    about = {
        "command": "python -m tools.make_corpus",
        "date": str(date.today()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "files": corpus.n_files,
        "bytes": corpus.n_bytes,
        "train_tokens": len(corpus.train_tokens),
        "validation_tokens": len(corpus.validation_tokens),
        "d_vocab": corpus.d_vocab,
        "hash": corpus.hash,
    }
    tokens = b"".join(part.astype("<u2").tobytes() for part in (corpus.train_tokens, corpus.validation_tokens))
    packed = lzma.compress(tokens, check=lzma.CHECK_SHA256, filters=PACKING)
    CORPUS_FILE.parent.mkdir(exist_ok=True)
    CORPUS_FILE.write_bytes(packed)
    CORPUS_FILE.with_name("corpus.json").write_text(json.dumps(about, indent=1) + "\n")
    for name, path in licences().items():
        shutil.copyfile(path, CORPUS_FILE.with_name(name))
    print(f"{corpus}\nin {len(packed) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
