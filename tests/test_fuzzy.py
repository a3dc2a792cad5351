from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.fuzzy import (
    LANGUAGES,
    TEMPLATES,
    Lexicon,
    PatternBatches,
    PatternTask,
    TranslationBatches,
    Translations,
    literal_copies,
    load_lexicon,
    pattern_attention_share,
    pattern_chance,
    pattern_targets,
    pattern_tasks,
    translated_sentences,
    translation_chance,
    translation_match,
    translation_targets,
)
from course_lib.handbuilt import induction_circuit
from course_lib.model import patterns
from course_lib.scores import prefix_matching_score

SEEDS = st.integers(0, 10**6)
SENTENCES = st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(0, 4), st.integers(2, 3), SEEDS)


@pytest.fixture(scope="module")
def lexicon():
    return load_lexicon()


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def tiny_lexicon(n=12):
    names = ["month", "animal", "fruit", "color"]
    words = tuple(tuple(f"{language}{i}" for language in LANGUAGES) for i in range(n))
    return Lexicon(words, tuple(names[i % 4] for i in range(n)))


def some_sentences(case):
    batch, length, shuffle, parts, seed = case
    return translated_sentences(
        tiny_lexicon(), batch, length, seeded(seed), LANGUAGES[:parts], shuffle=min(shuffle, length // 2)
    )


def random_pattern(batch, pos, seed, dtype=torch.float32):
    scores = torch.randn(2, batch, 3, pos, pos, generator=seeded(seed), dtype=dtype)
    return scores.masked_fill(torch.ones(pos, pos).triu(1).bool(), -torch.inf).softmax(-1)


def pattern_on(wanted):
    """All attention on the wanted keys [b, q, k], on key 0 where there are none; one head."""
    weight = wanted.float()
    weight[..., 0] += ~wanted.any(dim=-1)
    return (weight / weight.sum(dim=-1, keepdim=True))[:, None]


def uniform(batch, pos):
    return (torch.ones(pos, pos).tril() / torch.arange(1, pos + 1)[:, None]).expand(batch, 1, pos, pos)


# --- the lexicon ---


def test_lexicon_has_the_words_and_categories_that_the_tasks_need(lexicon):
    sizes = Counter(lexicon.categories)
    assert len(lexicon) >= 400 and sizes["month"] == 12
    assert all(sizes[name] >= 12 for name in ("animal", "fruit", "color"))
    assert len(lexicon.concepts()) == len(lexicon) and len(lexicon.concepts("month", "day")) == 19
    assert ("dog", "chien", "Hund") in lexicon.words and ("August", "août", "August") in lexicon.words
    assert ("egg", "œuf", "Ei") in lexicon.words and ("foot", "pied", "Fuß") in lexicon.words


def test_no_word_stands_twice_in_a_language(lexicon):
    for column in zip(*lexicon.words, strict=True):
        assert len({word.casefold() for word in column}) == len(lexicon)


def test_capitals_follow_each_language(lexicon):
    not_nouns = {"color", "number", "adjective", "adverb", "verb"}
    for (english, french, german), category in zip(lexicon.words, lexicon.categories, strict=True):
        assert english == (english.capitalize() if category in ("month", "day") else english.lower())
        assert french == french.lower()
        assert german == (german.lower() if category in not_nouns else german.capitalize())


def test_every_letter_belongs_to_its_language(lexicon):
    latin = "abcdefghijklmnopqrstuvwxyz"
    letters = {"english": latin, "french": latin + "àâçèéêëîïôùûœ-'", "german": latin + "äöüß"}
    for language, column in zip(LANGUAGES, zip(*lexicon.words, strict=True), strict=True):
        assert set("".join(column).lower()) <= set(letters[language])


def test_vocabulary_has_a_token_for_every_word_of_every_language(lexicon):
    assert lexicon.d_vocab == 1 + 3 * len(lexicon) + 6 and lexicon.vocabulary[0] == "<start>"
    for column, language in enumerate(LANGUAGES):
        ids = lexicon.tokens(language, lexicon.concepts())
        assert lexicon.decode(ids) == [row[column] for row in lexicon.words]
    assert lexicon.decode([lexicon.symbol(":"), lexicon.symbol("3"), 0]) == [":", "3", "<start>"]
    orange = lexicon.words.index(("orange", "orange", "Orange"))
    english, french = (lexicon.tokens(language, torch.tensor(orange)) for language in ("english", "french"))
    assert english != french, "a word that two languages share would turn translation into literal copying"


HEADER = "english,french,german,category\n"
BAD_FILES = {
    "empty file": ("", "line 1.*columns.*nothing"),
    "header only": (HEADER, "line 2.*at least one row"),
    "missing column": ("english,french,category\ndog,chien,animal\n", "line 1.*columns must be english,french,german"),
    "missing field": (HEADER + "dog,chien,Hund,animal\ncat,chat,animal\n", "line 3.*4 fields.*got 3"),
    "duplicate": (HEADER + "dog,chien,Hund,animal\n\nhound,chien,Jagdhund,animal\n", "line 4.*french.*'chien'.*line 2"),
    "duplicate but for capitals": (HEADER + "arm,bras,Arm,body\npoor,pauvre,arm,adjective\n", "line 3.*'arm'.*line 2"),
    "empty word": (HEADER + "dog,,Hund,animal\n", "line 2.*french must be one word.*''"),
    "two words": (HEADER + "potato,pomme de terre,Kartoffel,food\n", "line 2.*french must be one word"),
    "no category": (HEADER + "dog,chien,Hund,\n", "line 2.*category must be one word"),
}


@pytest.mark.parametrize("text, message", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_lexicon_is_refused_with_file_and_line(tmp_path, text, message):
    path = tmp_path / "words.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"words.csv, {message}"):
        load_lexicon(path)


def test_a_lexicon_in_another_encoding_or_nowhere_is_refused(tmp_path):
    path = tmp_path / "words.csv"
    path.write_bytes((HEADER + "dog,chien,Hund,animal\nsummer,été,Sommer,time\n").encode("latin-1"))
    with pytest.raises(ValueError, match="words.csv, line 3: not UTF-8"):
        load_lexicon(path)
    with pytest.raises(ValueError, match="no lexicon at .*absent.csv"):
        load_lexicon(str(tmp_path / "absent.csv"))


def test_a_lexicon_of_ones_own_is_read_whatever_wrote_it(tmp_path):
    path = tmp_path / "words.csv"
    decomposed = "e\N{COMBINING ACUTE ACCENT}te\N{COMBINING ACUTE ACCENT}"
    path.write_bytes("\ufeff".encode() + (HEADER + f"summer,{decomposed},Sommer,time\n").replace("\n", "\r\n").encode())
    assert load_lexicon(path).words == (("summer", "été", "Sommer"),)


def test_unknown_names_and_ids_are_refused(lexicon, unchecked):
    with pytest.raises(ValueError, match="language must be one of .*got 'dutch'"):
        lexicon.tokens("dutch", torch.tensor([0]))
    with pytest.raises(ValueError, match="no category 'planet'"):
        lexicon.concepts("animal", "planet")
    with pytest.raises(ValueError, match="concepts must lie in 0..419, got values from 420"):
        lexicon.tokens("french", torch.tensor([420]))
    with pytest.raises(ValueError, match="concepts must lie"):
        lexicon.tokens("french", torch.tensor([-1]))
    with pytest.raises(ValueError, match="concepts must be int64 or int32 integers, got torch.float32"):
        lexicon.tokens("french", torch.tensor([1.0]))
    with pytest.raises(ValueError, match="text must be one of"):
        lexicon.symbol("4")
    for ids in ([lexicon.d_vocab], [-1]):
        with pytest.raises(ValueError, match="tokens must lie in 0..1266"):
            lexicon.decode(ids)


# --- sentences in several languages ---


@settings(max_examples=40, deadline=None)
@given(SENTENCES)
def test_alignment_points_at_the_translation_of_the_same_word(case):
    sentences, lexicon = some_sentences(case), tiny_lexicon()
    batch, length, _, parts, _ = case
    rows = {word: row for row in lexicon.words for word in row}
    assert sentences.tokens.shape == (batch, 1 + parts * length)
    assert sentences.alignment.shape == (batch, 1 + parts * length, parts - 1)
    for b in range(batch):
        words = lexicon.decode(sentences.tokens[b])
        assert words[0] == "<start>" and sentences.alignment[b, 0].eq(-1).all()
        for p in range(1, len(words)):
            part = (p - 1) // length
            assert sentences.parts[b, p] == part and words[p] == rows[words[p]][part]
            assert lexicon.words[sentences.concepts[b, p]] == rows[words[p]]
            for earlier in range(parts - 1):
                at, following = int(sentences.alignment[b, p, earlier]), int(sentences.following[b, p, earlier])
                if earlier >= part:
                    assert at == following == -1
                else:
                    assert 1 + earlier * length <= at <= (earlier + 1) * length
                    assert words[at] == rows[words[p]][earlier] and following == at + 1


@settings(max_examples=40, deadline=None)
@given(SENTENCES)
def test_words_are_different_and_move_less_than_shuffle_places(case):
    sentences = some_sentences(case)
    _, length, shuffle, parts, _ = case
    for row in sentences.concepts.tolist():
        first = row[1 : 1 + length]
        assert len(set(first)) == length
        for part in range(1, parts):
            moved = row[1 + part * length : 1 + (part + 1) * length]
            assert sorted(moved) == sorted(first)
            assert all(abs(moved.index(c) - first.index(c)) < max(1, min(shuffle, length // 2)) for c in first)


def test_the_repeats_meander_but_only_when_asked(lexicon):
    def same_order(shuffle):
        sentences = translated_sentences(lexicon, 20, 12, seeded(0), shuffle=shuffle)
        first, second, third = sentences.concepts[:, 1:].split(12, dim=1)
        return torch.equal(first, second), torch.equal(second, third)

    assert same_order(0) == same_order(1) == (True, True)
    assert same_order(3) == (False, False)


def test_the_same_seed_gives_the_same_words_in_any_language(lexicon):
    one, same = (translated_sentences(lexicon, 4, 8, seeded(3)) for _ in range(2))
    assert torch.equal(one.tokens, same.tokens) and torch.equal(one.alignment, same.alignment)
    assert not torch.equal(one.tokens, translated_sentences(lexicon, 4, 8, seeded(4)).tokens)
    literal = translated_sentences(lexicon, 4, 8, seeded(3), languages=("english",) * 3, shuffle=0)
    assert torch.equal(literal.concepts[:, :9], one.concepts[:, :9])
    assert torch.equal(literal.tokens, literal_copies(one))


def test_sentences_can_be_restricted_to_some_concepts(lexicon):
    animals = lexicon.concepts("animal")
    sentences = translated_sentences(lexicon, 50, 10, seeded(0), concepts=animals)
    assert set(sentences.concepts[:, 1:].unique().tolist()) == set(animals.tolist())


def own_period(row, n_concepts=420):
    """Length of the first part: the words before the language changes."""
    column = (row[1:] - 1) // n_concepts
    return int((column != column[0]).nonzero()[0])


def test_positional_cheat_periods_and_language_order_vary(lexicon):
    batches = TranslationBatches(lexicon, batch=400, n_ctx=25, min_length=8, max_length=12, seed=1)
    rows = batches(0)
    assert rows.shape == (400, 25)
    columns = (rows[:, 1:] - 1) // len(lexicon)
    assert {own_period(row) for row in rows} == {8, 9, 10, 11, 12}
    orders = {tuple(dict.fromkeys(row)) for row in columns.tolist()}
    assert {order for order in orders if len(order) == 3} == {
        (0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0),
    }  # fmt: skip


def test_training_rows_are_translations_up_to_where_they_are_cut(lexicon):
    rows = TranslationBatches(lexicon, batch=50, n_ctx=25, min_length=8, max_length=12, seed=2)(7)
    for row in rows:
        period, concepts = own_period(row), ((row[1:] - 1) % len(lexicon)).tolist()
        first = concepts[:period]
        for part in range(1, 3):
            piece = concepts[part * period : (part + 1) * period]
            assert len(set(piece)) == len(piece) and set(piece) <= set(first)
            assert all(abs(place - first.index(concept)) < 3 for place, concept in enumerate(piece))
        assert sorted(concepts[period : 2 * period]) == sorted(first)


def test_training_batches_are_a_pure_function_of_seed_and_step(lexicon):
    for make in (TranslationBatches, PatternBatches):
        one, same, other = make(lexicon, seed=1), make(lexicon, seed=1), make(lexicon, seed=2)
        assert torch.equal(one(17), same(17)) and one(17).dtype == torch.int64
        assert not torch.equal(one(17), one(18)) and not torch.equal(one(17), other(17))
        assert one(17).min() == 0 and one(17).max() < lexicon.d_vocab and (one(17)[:, 0] == 0).all()


def test_a_pair_of_languages_can_be_held_out(lexicon):
    held_out, rest = lexicon.concepts().split([100, 320])
    common = {"n_ctx": 25, "min_length": 12, "max_length": 14}
    mixture = [
        TranslationBatches(lexicon, **common, concepts=rest),
        TranslationBatches(lexicon, **common, languages=("english", "french")),
        TranslationBatches(lexicon, **common, languages=("french", "german")),
    ]
    met = set()
    for step in range(30):
        for row in mixture[step % 3](step)[:, 1:].tolist():
            words = [((token - 1) // len(lexicon), (token - 1) % len(lexicon)) for token in row]
            languages = {column for column, _ in words}
            met |= {(concept, *sorted(languages)) for _, concept in words if concept in set(held_out.tolist())}
    assert {tuple(languages) for _, *languages in met} == {(0, 1), (1, 2)}


BAD_SENTENCES = {
    "unknown language": ({"languages": ("english", "dutch")}, "language must be one of .*'dutch'"),
    "one language": ({"languages": ("english",)}, "languages must be at least 2"),
    "a string": ({"languages": "english"}, "languages must be at least 2 .*got 'english'"),
    "no batch": ({"batch": 0}, "batch must be at least 1, got 0"),
    "too short": ({"length": 1}, "lengths from 2 .*got .*1..1"),
    "too long": ({"length": 13}, "number of concepts, 12, got .*13..13"),
    "wild shuffle": ({"shuffle": 4}, "shuffle must lie in 0..3, half of the length, got 4"),
    "negative shuffle": ({"shuffle": -1}, "shuffle must lie"),
    "half a shuffle": ({"shuffle": 1.5}, "shuffle must be a whole number, got 1.5"),
    "concepts that are no integers": ({"concepts": torch.arange(7.0)}, "concepts must be int64 or int32"),
    "too few concepts": ({"concepts": torch.arange(5)}, "number of concepts, 5"),
    "no concepts": ({"concepts": torch.arange(0)}, "number of concepts, 0"),
    "concept twice": ({"concepts": torch.tensor([1, 1, 2, 3, 4, 5, 6])}, "concepts must be different"),
    "no such concept": ({"concepts": torch.arange(6, 13)}, "lie in 0..11, got"),
}


@pytest.mark.parametrize("change, message", BAD_SENTENCES.values(), ids=BAD_SENTENCES)
def test_bad_arguments_of_sentences_are_refused(change, message, generator, unchecked):
    given_ = {"batch": 2, "length": 7, "shuffle": 1} | change
    with pytest.raises(ValueError, match=message):
        translated_sentences(tiny_lexicon(), generator=generator, **given_)


@pytest.mark.parametrize("n_ctx", [6, 14])
def test_a_context_that_lengths_do_not_fit_is_refused(n_ctx):
    fitting = {"min_length": 4, "max_length": 5, "shuffle": 2}
    assert TranslationBatches(tiny_lexicon(), n_ctx=7, **fitting)(0).shape == (32, 7)
    assert TranslationBatches(tiny_lexicon(), n_ctx=13, **fitting)(0).shape == (32, 13)
    with pytest.raises(ValueError, match=f"n_ctx must lie in .*7..13, got {n_ctx}"):
        TranslationBatches(tiny_lexicon(), n_ctx=n_ctx, **fitting)
    with pytest.raises(ValueError, match="shuffle"):
        TranslationBatches(tiny_lexicon(), n_ctx=13, min_length=4, max_length=5, shuffle=3)


# --- translation match ---


@settings(max_examples=40, deadline=None)
@given(SENTENCES)
def test_translation_match_equals_a_loop(case):
    sentences = some_sentences(case)
    batch, pos = sentences.tokens.shape
    pattern = random_pattern(batch, pos, case[-1])
    score = translation_match(pattern, sentences.alignment)
    assert score.shape == (2, 3)
    for layer in range(2):
        for head in range(3):
            values, chances = [], []
            for b in range(batch):
                for q in range(pos):
                    found = [int(k) + 1 for k in sentences.alignment[b, q] if k >= 0]
                    if found:
                        values.append(sum(pattern[layer, b, head, q, k].item() for k in found))
                        chances.append(len(found) / (q + 1))
            assert score[layer, head].item() == pytest.approx(sum(values) / len(values), abs=1e-6)
            assert translation_chance(sentences.alignment) == pytest.approx(sum(chances) / len(chances), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(SENTENCES)
def test_ideal_attention_scores_1_and_uniform_attention_scores_chance(case):
    alignment = some_sentences(case).alignment
    batch, pos, _ = alignment.shape
    assert translation_match(pattern_on(translation_targets(alignment)), alignment).item() == pytest.approx(1)
    match = translation_match(uniform(batch, pos), alignment).item()
    assert match == pytest.approx(translation_chance(alignment), abs=1e-6)


def test_chance_of_a_translation_is_what_theory_says(lexicon, generator):
    alignment = translated_sentences(lexicon, 5, 10, generator).alignment
    expected = [1 / (q + 1) for q in range(11, 21)] + [2 / (q + 1) for q in range(21, 31)]
    assert translation_chance(alignment) == pytest.approx(sum(expected) / 20, abs=1e-6)


def test_offset_trap_the_word_after_the_translation_counts_and_not_the_translation(lexicon, generator):
    sentences = translated_sentences(lexicon, 4, 10, generator)
    at = translation_targets(sentences.alignment)
    scores = {
        offset: translation_match(pattern_on(at.roll(offset, dims=-1)), sentences.alignment) for offset in (-1, 0)
    }
    assert scores[0].item() == pytest.approx(1) and scores[-1].item() == 0
    words = lexicon.decode(sentences.tokens[0])
    q = 15  # a word of the French part
    english = words.index(lexicon.words[sentences.concepts[0, q]][0])
    assert at[0, q].nonzero().flatten().tolist() == [english + 1]


def test_a_text_without_a_start_token_may_begin_with_a_translated_word():
    alignment = torch.tensor([[[-1], [-1], [0], [1]]])  # "dog cat chien chat"
    assert translation_targets(alignment).nonzero().tolist() == [[0, 2, 1], [0, 3, 2]]
    same = torch.zeros(1, 4, dtype=torch.int64)
    assert Translations(same, same, same, alignment).following.flatten().tolist() == [-1, -1, 1, 2]


@settings(max_examples=20, deadline=None)
@given(SENTENCES)
def test_on_literal_copies_it_is_the_prefix_matching_score(case):
    batch, length, _, parts, seed = case
    sentences = translated_sentences(
        tiny_lexicon(), batch, length, seeded(seed), languages=("german",) * parts, shuffle=0
    )
    assert torch.equal(literal_copies(sentences), sentences.tokens)
    pattern = random_pattern(*sentences.tokens.shape, seed)
    torch.testing.assert_close(
        translation_match(pattern, sentences.alignment), prefix_matching_score(pattern, sentences.tokens)
    )


def test_a_circuit_that_reads_concepts_translates_and_one_that_reads_words_does_not(generator):
    lexicon = tiny_lexicon()
    sentences = translated_sentences(lexicon, 4, 9, generator)
    of_concepts = patterns(induction_circuit(len(lexicon) + 1, 28), sentences.concepts + 1)
    of_words = patterns(induction_circuit(lexicon.d_vocab, 28), sentences.tokens)
    chance = translation_chance(sentences.alignment)
    assert translation_match(of_concepts, sentences.alignment)[1].item() == pytest.approx(1, abs=1e-5)
    # Nothing repeats literally, so the literal head sees no match and attends to everything alike.
    assert translation_match(of_words, sentences.alignment)[1].item() == pytest.approx(chance, abs=1e-5)
    literal = literal_copies(sentences)
    assert prefix_matching_score(patterns(induction_circuit(lexicon.d_vocab, 28), literal), literal)[1] > 0.9999


def test_float32_and_float64_agree_within_a_millionth(lexicon, generator):
    sentences = translated_sentences(lexicon, 4, 10, generator)
    task = pattern_tasks(lexicon, 4, 12, generator)
    for score, data, pos in ((translation_match, sentences.alignment, 31), (pattern_attention_share, task, 61)):
        double = random_pattern(4, pos, 0, torch.float64)
        torch.testing.assert_close(score(double.float(), data).double(), score(double, data), atol=1e-6, rtol=0)
        assert score(double, data).dtype == torch.float64


@pytest.mark.parametrize("shape", [(31, 31), (3, 1, 31, 31), (4, 1, 30, 30), (4, 1, 31, 30), (4, 0, 31, 31)], ids=str)
def test_patterns_that_do_not_fit_are_refused(unchecked, lexicon, generator, shape):
    sentences = translated_sentences(lexicon, 4, 10, generator)
    task = pattern_tasks(lexicon, 4, 6, generator)
    for score, data in ((translation_match, sentences.alignment), (pattern_attention_share, task)):
        with pytest.raises(ValueError, match="pattern must have shape .*4, head, 31, 31"):
            score(torch.zeros(shape), data)


@pytest.mark.parametrize("value", [-0.5, 1.5, float("nan")])
def test_scores_that_are_no_attention_are_refused(lexicon, generator, value):
    task = pattern_tasks(lexicon, 4, 6, generator)
    with pytest.raises(ValueError, match="pattern must hold attention after the softmax, 0..1, got"):
        pattern_attention_share(torch.full((4, 1, 31, 31), value), task)


def test_alignments_that_make_no_sense_are_refused(unchecked):
    pattern = uniform(1, 4)
    for bad in (torch.zeros(1, 4), torch.zeros(1, 4, 0)):
        with pytest.raises(ValueError, match="alignment must have shape"):
            translation_match(pattern, bad.long())
    for position in (-2, 2):  # of the translation of query 2
        alignment = torch.full((1, 4, 1), -1)
        alignment[0, 2, 0] = position
        with pytest.raises(ValueError, match="-1 or a position before"):
            translation_match(pattern, alignment)
    with pytest.raises(ValueError, match="no translation"):
        translation_match(pattern, torch.full((1, 4, 1), -1))
    with pytest.raises(ValueError, match="no translation"):
        translation_chance(torch.full((1, 4, 1), -1))


# --- the pattern task ---


def lines_of(lexicon, row):
    words = lexicon.decode(row)[1:]
    return [words[i : i + 5] for i in range(0, len(words), 5)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_lines_follow_the_four_templates_and_the_paper_s_labels(lexicon, generator, language):
    task = pattern_tasks(lexicon, 20, 10, generator, language=language)
    column = LANGUAGES.index(language)
    category = {row[column]: name for row, name in zip(lexicon.words, lexicon.categories, strict=True)}
    rule = {("month", "animal"): "0", ("month", "fruit"): "1", ("color", "animal"): "2", ("color", "fruit"): "3"}
    assert task.tokens.shape == (20, 51) and (task.tokens[:, 0] == 0).all()
    for b, row in enumerate(task.tokens):
        for i, (first, second, colon, label, end) in enumerate(lines_of(lexicon, row)):
            assert (colon, end) == (":", "\n") and label == rule[category[first], category[second]]
            assert label == str(task.kinds[b, i].item()) == str(task.labels[b, i].item())
    assert set(task.kinds.unique().tolist()) == {0, 1, 2, 3}


def test_permuted_labels_differ_between_prompts_and_hold_within_one(lexicon):
    plain = pattern_tasks(lexicon, 200, 12, seeded(5))
    task = pattern_tasks(lexicon, 200, 12, seeded(5), permute_labels=True)
    assert torch.equal(task.kinds, plain.kinds)
    maps = set()
    for b, row in enumerate(task.tokens):
        lines = lines_of(lexicon, row)
        assert [line[:2] for line in lines] == [line[:2] for line in lines_of(lexicon, plain.tokens[b])]
        assert [int(line[3]) for line in lines] == task.labels[b].tolist()
        label_of = dict(zip(task.kinds[b].tolist(), task.labels[b].tolist(), strict=True))
        assert all(label_of[int(kind)] == int(label) for kind, label in zip(task.kinds[b], task.labels[b], strict=True))
        assert len(set(label_of.values())) == len(label_of)
        if len(label_of) == 4:
            maps.add(tuple(label_of[kind] for kind in range(4)))
    assert len(maps) == 24


def test_every_word_of_the_four_categories_is_used(lexicon):
    task = pattern_tasks(lexicon, 300, 20, seeded(0))
    used = {word for row in task.tokens for line in lines_of(lexicon, row) for word in line[:2]}
    assert used == {lexicon.words[c][0] for c in lexicon.concepts("month", "animal", "color", "fruit").tolist()}


def test_positions_of_colons_and_lines_seen_before(lexicon, generator):
    task = pattern_tasks(lexicon, 5, 6, generator)
    assert (task.tokens[:, task.colons] == lexicon.symbol(":")).all()
    assert (task.tokens == lexicon.symbol(":")).sum() == 5 * len(task.colons)
    assert torch.equal(task.tokens[:, task.colons + 1], lexicon.symbol("0") + task.labels)
    for b in range(5):
        kinds = task.kinds[b].tolist()
        assert task.seen[b].tolist() == [kind in kinds[:i] for i, kind in enumerate(kinds)]


PROMPTS = st.tuples(st.integers(1, 3), st.integers(5, 9), SEEDS)  # 5 lines of 4 kinds: one kind must come back


@settings(max_examples=30, deadline=None)
@given(PROMPTS, st.sampled_from(["line", "label"]))
def test_pattern_attention_share_equals_a_loop(case, at):
    batch, lines, seed = case
    task = pattern_tasks(tiny_lexicon(), batch, lines, seeded(seed))
    pattern = random_pattern(batch, 1 + 5 * lines, seed)
    values, chances = [], []
    for b in range(batch):
        for i in range(lines):
            q = 1 + 5 * i + 2
            earlier = [j for j in range(i) if task.kinds[b, j] == task.kinds[b, i]]
            keys = [1 + 5 * j + place for j in earlier for place in (range(5) if at == "line" else [3])]
            if keys:
                values.append(sum(pattern[:, b, :, q, k] for k in keys))
                chances.append(len(keys) / (q + 1))
    share = pattern_attention_share(pattern, task, at)
    assert share.shape == (2, 3)
    torch.testing.assert_close(share, sum(values) / len(values), atol=1e-6, rtol=0)
    assert pattern_chance(task, at) == pytest.approx(sum(chances) / len(chances), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(PROMPTS, st.sampled_from(["line", "label"]))
def test_ideal_lines_score_1_and_uniform_attention_scores_chance(case, at):
    batch, lines, seed = case
    task = pattern_tasks(tiny_lexicon(), batch, lines, seeded(seed))
    ideal = pattern_on(pattern_targets(task, at))
    assert pattern_attention_share(ideal, task, at).item() == pytest.approx(1)
    assert pattern_attention_share(ideal, task, "line").item() == pytest.approx(1), "a label lies in its line"
    even = pattern_attention_share(uniform(*task.tokens.shape), task, at).item()
    assert even == pytest.approx(pattern_chance(task, at), abs=1e-6)


def test_chance_of_the_pattern_task_is_what_theory_says(lexicon, generator):
    task = pattern_tasks(lexicon, 2, 8, generator)
    kinds = torch.zeros_like(task.kinds)  # all of one kind: the share counts every earlier line
    one_kind = replace(task, kinds=kinds)
    expected = [5 * i / (5 * i + 4) for i in range(1, 8)]  # ":" of line i sees 5 i + 4 tokens
    assert pattern_chance(one_kind) == pytest.approx(sum(expected) / 7, abs=1e-6)
    assert pattern_chance(one_kind, "label") == pytest.approx(sum(expected) / 35, abs=1e-6)
    long = pattern_tasks(lexicon, 50, 80, generator)
    assert pattern_chance(long) == pytest.approx(0.25, abs=0.02), "one line in four is of the right kind"


def test_offset_trap_the_label_after_the_colon_counts_and_not_the_colon(lexicon, generator):
    task = pattern_tasks(lexicon, 3, 9, generator)
    on_colons = pattern_on(pattern_targets(task, "label").roll(-1, dims=-1))
    assert pattern_attention_share(on_colons, task, "label").item() == 0
    assert pattern_attention_share(on_colons, task, "line").item() == pytest.approx(1)


def test_attention_that_rests_on_the_start_token_counts_against_the_head(lexicon, generator):
    task = pattern_tasks(lexicon, 3, 9, generator)
    idle = torch.zeros(3, 1, 46, 46)
    idle[..., 0] = 1
    half = (pattern_on(pattern_targets(task)) + idle) / 2
    assert pattern_attention_share(idle, task).item() == 0
    assert pattern_attention_share(half, task).item() == pytest.approx(0.5)


def test_a_head_that_matches_one_word_only_finds_the_right_line_half_the_time(lexicon, generator):
    task = pattern_tasks(lexicon, 100, 60, generator)
    first_word = task.kinds // 2  # month or color, whatever comes second
    wanted = pattern_targets(replace(task, kinds=first_word))
    assert pattern_attention_share(pattern_on(wanted), task).item() == pytest.approx(0.5, abs=0.05)


def test_bad_arguments_of_the_pattern_task_are_refused(unchecked, lexicon, generator):
    for change, message in (({"batch": 0}, "batch must be at least 1"), ({"lines": 1}, "lines must be at least 2")):
        with pytest.raises(ValueError, match=message):
            pattern_tasks(lexicon, generator=generator, **({"batch": 1, "lines": 2} | change))
        with pytest.raises(ValueError, match=message):
            PatternBatches(lexicon, **change)
    with pytest.raises(ValueError, match="language must be one of .*'dutch'"):
        PatternBatches(lexicon, language="dutch")
    with pytest.raises(ValueError, match="no category 'fruit'"):
        pattern_tasks(Lexicon((("a", "b", "c"),) * 3, ("month", "animal", "color")), 1, 2, generator)
    task = pattern_tasks(lexicon, 2, 5, generator)
    with pytest.raises(ValueError, match="at must be one of .*'colon'"):
        pattern_attention_share(uniform(2, 26), task, "colon")
    with pytest.raises(ValueError, match="do not fit one another, got"):
        PatternTask(task.tokens[:, :-1], task.kinds, task.labels)
    with pytest.raises(ValueError, match="do not fit one another, got"):
        PatternTask(task.tokens, task.kinds, task.labels[:1])
    with pytest.raises(ValueError, match="no kind of line that comes back"):
        pattern_chance(PatternTask(task.tokens[:, :21], torch.arange(4).repeat(2, 1), torch.arange(4).repeat(2, 1)))


def test_templates_are_the_four_of_the_paper():
    assert TEMPLATES == (("month", "animal"), ("month", "fruit"), ("color", "animal"), ("color", "fruit"))
