import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from course_lib import data
from course_lib.data import (
    START,
    TOKENIZER_FILE,
    Corpus,
    RepeatedSegments,
    corpus_from,
    load_corpus,
    load_tokenizer,
    repeated_tokens,
)
from course_lib.lexicon import load_lexicon
from course_lib.pattern_task import PatternBatches
from course_lib.recorded import load_recorded
from course_lib.translation import TranslationBatches


def test_repeated_tokens_repeat_and_differ(generator):
    tokens = repeated_tokens(5, 7, 3, 20, generator)
    assert tokens.shape == (5, 22) and (tokens[:, 0] == 0).all()
    segment = tokens[:, 1:8]
    assert torch.equal(tokens[:, 1:], segment.repeat(1, 3))
    assert all(len(set(row)) == 7 and 0 not in row and max(row) < 20 for row in segment.tolist())
    assert repeated_tokens(1, 7, 3, 20, generator, start_token=None).shape == (1, 21)


def test_repeated_segments_vary_their_period_and_repeat_exactly():
    tokens = RepeatedSegments(batch=200, d_vocab=50, n_ctx=61, min_length=5, max_length=9, seed=1)(0)
    periods = set()
    for row in tokens[:, 1:].tolist():
        period = next(p for p in range(1, 60) if all(row[i] == row[i - p] for i in range(p, 60)))
        periods.add(period)
    assert periods == {5, 6, 7, 8, 9}


def test_batches_are_a_pure_function_of_seed_and_step():
    one, same, other = RepeatedSegments(seed=1), RepeatedSegments(seed=1), RepeatedSegments(seed=2)
    assert torch.equal(one(17), same(17))
    assert not torch.equal(one(17), one(18)) and not torch.equal(one(17), other(17))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: repeated_tokens(5, 25, 4, 1024, torch.Generator().manual_seed(0)),
        lambda: PatternBatches(load_lexicon(), permute_labels=True)(3),
        lambda: TranslationBatches(load_lexicon())(3),
    ],
)
def test_the_default_dtype_draws_no_other_tokens(draw):
    expected = draw()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(draw(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_tokenizer_is_lossless_and_covers_all_bytes():
    tokenizer = load_tokenizer()
    assert tokenizer.get_vocab_size() == 1024 and tokenizer.token_to_id("<start>") == 0
    text = "def f(x):\n\treturn 'é 漢字 \U0001f600' + x\n"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_tokenizer_training_is_documented_and_repeatable():
    from tools.make_tokenizer import train_tokenizer

    texts = ["for i in range(10): print(i)\n" * 50, "import os\nimport sys\n" * 50]
    first, second = (train_tokenizer(texts, d_vocab=270) for _ in range(2))
    assert first.to_str() == second.to_str()
    assert first.get_vocab_size() == 270 and first.token_to_id("<start>") == 0


def write_files(folder, n=60):
    folder.mkdir(exist_ok=True)
    for i in range(n):
        (folder / f"file_{i}.py").write_text(f"value_{i} = {i * 7919}\n" * 30)
    return sorted(folder.glob("*.py"))


def test_corpus_splits_by_file(tmp_path):
    files = write_files(tmp_path / "text")
    corpus = corpus_from(files)
    again = corpus_from(reversed(files))
    assert corpus.hash == again.hash and np.array_equal(corpus.train_tokens, again.train_tokens)
    tokenizer = load_tokenizer()
    split = [tokenizer.decode(part.tolist()) for part in (corpus.train_tokens, corpus.validation_tokens)]
    for i in range(60):
        assert sum(f"value_{i} = " in text for text in split) == 1
    assert split[1]
    assert "60 files" in repr(corpus) and corpus.hash[:12] in repr(corpus)


def test_a_changed_file_changes_the_hash(tmp_path):
    files = write_files(tmp_path / "text")
    before = corpus_from(files).hash
    files[3].write_text("something else\n")
    assert corpus_from(files).hash != before


def test_copies_of_a_file_count_once(tmp_path):
    files = write_files(tmp_path / "text")
    (tmp_path / "copy.py").write_bytes(files[0].read_bytes())
    assert corpus_from([*files, tmp_path / "copy.py"]).hash == corpus_from(files).hash


def test_corpus_batches(tmp_path):
    corpus = corpus_from(write_files(tmp_path / "text"))
    batch = corpus.batches(4, 32, seed=3)(10)
    assert batch.shape == (4, 33) and (batch[:, 0] == 0).all() and batch.dtype == torch.long
    assert torch.equal(batch, corpus.batches(4, 32, seed=3)(10))
    text = corpus.train_tokens.tobytes()
    assert all(row[1:].numpy().astype(np.uint16).tobytes() in text for row in batch)
    assert torch.equal(corpus.validation(5, 16), corpus.validation(5, 16))


def test_every_stretch_is_drawn_but_the_one_that_ends_with_the_text():
    tokens = np.arange(9, dtype=np.uint16)
    drawn = Corpus(tokens, tokens, 9, 1, 1, "x").batches(batch=500, n_ctx=4)(0)[:, 1:]
    assert sorted(set(map(tuple, drawn.tolist()))) == [(i, i + 1, i + 2, i + 3) for i in range(5)]


def test_the_text_of_the_course_is_python_source():
    """Its files decode to programs that Python itself can parse, each once, and none is in both splits."""
    corpus, tokenizer = load_corpus(), load_tokenizer()
    splits = []
    for part in (corpus.train_tokens, corpus.validation_tokens):
        starts = np.flatnonzero(part == START)
        splits.append([each.tobytes() for each in np.split(part, starts[1:])])
    assert sum(map(len, splits)) == len(set(splits[0] + splits[1])) == corpus.n_files
    assert 0.03 < len(corpus.validation_tokens) / len(corpus.train_tokens) < 0.07
    for tokens in splits[1]:
        text = tokenizer.decode(np.frombuffer(tokens, dtype="<u2").tolist())
        if "lib2to3" not in text:
            ast.parse(text)
    assert max(corpus.train_tokens) < corpus.d_vocab == tokenizer.get_vocab_size()


def tokenizer_of(d_vocab):
    """The course's tokenizer with the first merges only."""
    parts = json.loads(TOKENIZER_FILE.read_text(encoding="utf-8"))
    parts["model"]["merges"] = parts["model"]["merges"][: d_vocab - 257]
    parts["model"]["vocab"] = {text: token for text, token in parts["model"]["vocab"].items() if token < d_vocab}
    return Tokenizer.from_str(json.dumps(parts))


@pytest.mark.parametrize("d_vocab", [257, 258, 512, 1023, 1024])
def test_a_smaller_vocabulary_gives_the_tokens_of_a_smaller_tokenizer(tmp_path, d_vocab):
    corpus = corpus_from([*write_files(tmp_path / "text"), Path(data.__file__)])
    smaller = corpus.with_vocabulary(d_vocab)
    assert smaller.d_vocab == d_vocab
    for tokens, few in (
        (corpus.train_tokens, smaller.train_tokens),
        (corpus.validation_tokens, smaller.validation_tokens),
    ):
        files = np.split(tokens, np.flatnonzero(tokens == START))[1:]
        texts = [load_tokenizer().decode(file[1:].tolist()) for file in files]
        wanted = [token for text in texts for token in [START, *tokenizer_of(d_vocab).encode(text).ids]]
        assert few.tolist() == wanted and few.dtype == np.uint16


def test_each_vocabulary_has_a_hash_of_its_own(tmp_path):
    corpus = corpus_from(write_files(tmp_path / "text"))
    hashes = [corpus.hash, corpus.with_vocabulary(512).hash, corpus.with_vocabulary(513).hash]
    assert len(set(hashes)) == 3 and corpus.with_vocabulary(512).hash == hashes[1]


def test_the_text_of_the_course_is_that_of_the_recorded_runs():
    for name in ("series", "two_layers", "before_change", "lab"):
        assert load_recorded(name)["provenance"]["corpus"] == repr(load_corpus())


def test_a_damaged_text_says_what_to_do(monkeypatch, tmp_path):
    for name in ("tokens.xz", "corpus.json"):
        (tmp_path / name).write_bytes(data.CORPUS_FILE.with_name(name).read_bytes())
    monkeypatch.setattr(data, "CORPUS_FILE", tmp_path / "tokens.xz")
    whole = data.CORPUS_FILE.read_bytes()
    for content in (whole[:-1000], whole[:5000] + bytes(9) + whole[5009:], b""):
        data.CORPUS_FILE.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read.*install the course again"):
            load_corpus()
    data.CORPUS_FILE.unlink()
    with pytest.raises(ValueError, match=r"cannot be read.*tokens\.xz.*install the course again"):
        load_corpus()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: repeated_tokens(1, 20, 2, 20, torch.Generator()), "length 20.*d_vocab=20 has 19"),
        (lambda: repeated_tokens(0, 5, 2, 20, torch.Generator()), "batch must be at least 1, got 0"),
        (lambda: RepeatedSegments(min_length=9, max_length=5), "min_length <= max_length"),
        (lambda: repeated_tokens(1, 5, 1.5, 20, torch.Generator()), "repeats must be a whole number, got 1.5"),
        (lambda: RepeatedSegments(max_length=20.5), "max_length must be a whole number, got 20.5"),
        (lambda: RepeatedSegments(d_vocab=2), "d_vocab must be at least 3, got 2"),
        (lambda: load_tokenizer("no/such.json"), "no tokenizer at no/such.json; make one with"),
        (lambda: corpus_from(["no/such.txt"]), "no file at no/such.txt"),
        (lambda: corpus_from([]), "at least 2 different files"),
        (lambda: corpus_from("text.txt"), "files must be several paths, got one: 'text.txt'"),
        (
            lambda: Corpus(np.zeros(5, np.uint16), np.zeros(5, np.uint16), 9, 1, 1, "x").batches(1, 5),
            "n_ctx must be less than the 5 tokens.*got 5",
        ),
        (lambda: load_corpus().with_vocabulary(256), "d_vocab must be at least 257, got 256"),
        (lambda: load_corpus().with_vocabulary(1025), "d_vocab must be at most the 1024 of this corpus, got 1025"),
    ],
)
def test_bad_input(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
