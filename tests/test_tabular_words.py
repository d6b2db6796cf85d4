"""Tests of free text: the encoding by words, its choice, files, and the functions of C headers for words."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

from hypothesis import given
from hypothesis import strategies as st

import nnc
from nnc._tables.words import MAX_WORDS, Words, split_words
from nnc.tabular import Schema, TableClassifier, TableRegressor, read_table

ADJECTIVES, NOUNS = ("Good", "bad", "old", "NEW"), ("tea", "coffee", "Käse", "don't", "soup")


def build_texts(n=200, seed=0):
    """Return different texts with words of two lists, and which of them contain the word "bad"."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(ADJECTIVES), n)
    texts = [f"{ADJECTIVES[k]} {rng.choice(NOUNS)}, no. {i + 1000 * seed}" for i, k in enumerate(chosen)]
    return texts, chosen == 1


def learn_words(texts, **columns):
    """Return the encoding of a column of texts."""
    rows = [list(row) for row in zip(texts, range(len(texts)), strict=True)]
    return Schema.learn(read_table(rows)).columns[0].encoding


def encode(encoding, texts):
    """Return plain and additional features of texts."""
    cells = encoding.read_cells(read_table([[text] for text in texts]).columns[0])
    plain, extra = np.zeros((len(texts), encoding.width)), np.zeros((len(texts), encoding.extra_width))
    encoding.write(cells, plain)
    encoding.write_extra(cells, extra)
    return plain, extra


WORDS = Words(missing=0.25, mean=4.0, words=("tea", "bad", *(f"w{i}" for i in range(40)), "käse", "t"))


def test_words_consist_of_ascii_letters_digits_and_other_characters():
    assert split_words("Don't SAY: 3 Käse-Brote, ÄÖ\n…") == ["don", "t", "say", "3", "käse", "brote", "ÄÖ", "…"]
    assert split_words(" .,;!\t") == []


def test_features_are_number_of_words_and_presence_of_vocabulary():
    texts = ["BAD tea, bad!", None, "w39 w0 Käse; can't", "tea-w1 x y z", "teas", "."]
    plain, extra = encode(WORDS, texts)
    n = np.array([3, 4, 5, 5, 1, 0])
    assert plain[:, 0].tolist() == (2 * n / (n + 4) - 1).tolist()
    assert plain[:, 1].tolist() == [0, 1, 0, 0, 0, 0]
    present = [{WORDS.words[i] for i in np.flatnonzero(row)} for row in extra]
    assert present == [{"bad", "tea"}, set(), {"w39", "w0", "käse", "t"}, {"tea", "w1"}, set(), set()]
    assert set(extra.ravel()) == {0, 1}


def test_cells_that_are_numbers_are_read_as_text():
    cells = read_table([[17], [None]]).columns[0]
    assert WORDS.read_cells(cells)[:, 0].tolist()[:1] == [1]
    with pytest.raises(ValueError, match="text in column"):
        WORDS.read_cells(read_table(np.array([["2020-01-01"]], "M8[s]")).columns[0])


def test_vocabulary_contains_words_that_are_neither_rare_nor_in_nearly_all_rows():
    texts, _ = build_texts()
    encoding = learn_words([*texts, None, None])
    assert set(encoding.words) == {"good", "bad", "old", "new", "tea", "coffee", "käse", "don", "t", "soup"}
    counts = [sum(word in split_words(text) for text in texts) for word in encoding.words]
    assert counts == sorted(counts, reverse=True)
    assert encoding.missing == 2 / 202
    assert encoding.describe().startswith("10 words such as '")


@pytest.mark.parametrize(
    "text", ["n{i}", "{i}-a-b{j}", "x{i} y{k} z{k}", "always the same words {i}", "x{i} y{i} {space}"], ids=str
)
def test_identifiers_and_texts_without_frequent_words_are_left_out(text):
    texts = [text.format(i=i, j=i % 2, k=i // 5, space=" \xa0"[i % 2]) for i in range(100)]
    assert learn_words(texts).describe().startswith("left out: 100 different texts")


def test_vocabulary_is_limited(set_limit):
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{j}" for j in rng.permutation(400)[:150]) for _ in range(60)]
    assert len(learn_words(texts).words) == MAX_WORDS
    set_limit("nnc._tables.words.MAX_WORD_VALUES", 100 * len(texts))
    assert len(learn_words(texts).words) == 100
    set_limit("nnc._tables.words.MAX_WORD_VALUES", len(texts) - 1)
    assert learn_words(texts).width == 0


PARTS = [*WORDS.words, " ", "-", "Tea", "BAD ", "t.", "\x7f", "\xa0"]
CHARACTERS = st.text() | st.lists(st.sampled_from(PARTS)).map("".join)


@given(st.lists(st.none() | CHARACTERS, min_size=1, max_size=8))
def test_any_text_is_encoded_alone_as_in_table(texts):
    plain, extra = encode(WORDS, texts)
    assert abs(plain).max() <= 1
    for i, text in enumerate(texts):
        alone = encode(WORDS, [text])
        assert np.array_equal(alone[0][0], plain[i])
        assert np.array_equal(alone[1][0], extra[i])
        words = set(split_words(text)) if text and not text.isspace() else set()
        assert {word for word, value in zip(WORDS.words, extra[i], strict=True) if value} == words & set(WORDS.words)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": []}, "words must be a list of one or more lower-case words"),
        ({"words": ["Tea"]}, "words must be a list of one or more lower-case words"),
        ({"words": ["a b"]}, "words must be a list of one or more lower-case words"),
        ({"words": ["a", "a"]}, "words must be a list of distinct strings"),
        ({"mean": 0}, "mean must be a positive finite number"),
        ({"missing": 1}, "missing must be at least 0"),
    ],
)
def test_from_document_rejects_invalid_words(changes, message):
    encoding = {**WORDS.document(), **changes}
    with pytest.raises(ValueError, match=rf"^schema\.columns\[0\]\.encoding\.{message}"):
        Schema.from_document({"named": True, "columns": [{"name": "a", "kind": "text", "encoding": encoding}]})


def test_model_learns_from_words_and_explains_texts(tmp_path):
    texts, labels = build_texts()
    later_texts, later_labels = build_texts(seed=1)
    numbers = np.random.default_rng(2).normal(size=(200, 2)).tolist()
    rows, later = ([[text, *row] for text, row in zip(column, numbers, strict=True)] for column in (texts, later_texts))
    model = TableClassifier("fast", members=4, random_state=0).fit(rows, labels)
    assert model.score(later, later_labels) > 0.95
    assert model.feature_importances_.argmax() == 0
    assert abs(model.explain(later[:5]).contributions).argmax(axis=1).tolist() == [0] * 5
    model.save(tmp_path / "model.json")
    assert np.array_equal(nnc.load(tmp_path / "model.json").predict_proba(later), model.predict_proba(later))
    later[0][0] = None  # a text may be missing, or contain only new words
    later[1][0] = "entirely unknown"
    assert np.isfinite(model.predict_proba(later)).all()


def test_intervals_of_texts_cover_targets():
    rows, targets = [], []
    for seed in (0, 1):
        texts, labels = build_texts(seed=seed)
        rows.append([[text] for text in texts])
        targets.append(labels + np.random.default_rng(seed).normal(0, 0.1, len(texts)))
    model = TableRegressor("fast", members=5, random_state=0).fit(rows[0], targets[0])
    low, high = model.predict_interval(rows[1], 0.9)
    assert 0.8 < ((low <= targets[1]) & (targets[1] <= high)).mean() < 1
    assert (high - low).mean() < 0.6  # an interval without the words contains 0 and 1


C_SOURCE = """
#include "model.h"
double count_words(const char *text) { return model_count_words(text); }
double find_words(const char *text, int first)
{
    return first ? model_find_words(text, model_levels2, sizeof model_levels2 / sizeof *model_levels2)
                 : model_find_words(text, model_levels1, sizeof model_levels1 / sizeof *model_levels1);
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Return a schema with the encoding WORDS, and the C functions for words in the header of a model with it."""
    from nnc._interop.c_table import to_c_table
    from nnc.tabular.export import build_table_program

    folder = tmp_path_factory.mktemp("words")
    rng = np.random.default_rng(0)
    texts = [f"{i} " + " ".join(rng.permutation(WORDS.words)[:20]) for i in range(120)]
    model = TableClassifier("fast", members=1, random_state=0).fit([[text] for text in texts], rng.random(120) < 0.5)
    (folder / "model.h").write_text(to_c_table(build_table_program(model._model()), "model"), encoding="utf-8")
    (folder / "words.c").write_text(C_SOURCE)
    command = ["gcc", "-std=c99", "-O1", "-shared", "-fPIC", "-o", "words.so", "words.c", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "words.so"))
    library.count_words.restype = library.find_words.restype = ctypes.c_double
    return model, library


@pytest.mark.skipif(shutil.which("gcc") is None, reason="requires gcc")
@given(text=CHARACTERS)
def test_c_functions_find_words_like_codes(compiled, text):
    model, library = compiled
    text = text.replace("\0", "")
    encoded = text.encode()
    found = [library.count_words(encoded), library.find_words(encoded, 0), library.find_words(encoded, 1)]
    codes = model.codes([[text]])[0].tolist()
    assert found == codes or (not text.strip() and np.isnan(codes).all())
