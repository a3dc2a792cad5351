"""Train the course's tokenizer: a byte-level BPE of 1,024 tokens on the sources of Python and PyTorch.

Run `python -m tools.make_tokenizer` in the repository's root. The file is shipped, so that token ids are the same on
every machine; retraining on another Python or PyTorch version gives other merges and makes recorded runs incomparable.
"""

from __future__ import annotations

import json
import platform

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from course_lib.data import TOKENIZER_FILE
from tools.make_corpus import python_source_files

D_VOCAB = 1024
START_NAME = "<start>"


def train_tokenizer(texts: list[str], d_vocab: int = D_VOCAB) -> Tokenizer:
    """Byte-level BPE with `d_vocab` tokens: token 0 starts a sequence, 256 are bytes, the rest are learned merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=d_vocab,
        special_tokens=[START_NAME],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def main() -> None:
    """Write `course_lib/assets/tokenizer.json` and a note of what it was trained on."""
    files = python_source_files()
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(files)]
    train_tokenizer(texts).save(str(TOKENIZER_FILE))
    provenance = {
        "command": "python -m tools.make_tokenizer",
        "files": len(files),
        "characters": sum(map(len, texts)),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    TOKENIZER_FILE.with_name("tokenizer.provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")


if __name__ == "__main__":
    main()
