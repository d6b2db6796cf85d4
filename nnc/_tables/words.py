"""Encoding of free text: which words of a vocabulary the text contains."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._interop.table import ColumnFormulas, RawColumn
from nnc._tables.cells import Column, as_levels, wrong_kind_error
from nnc._tables.encoding import WithIndicator, text_list
from nnc._utils.checks import check_positive, pluralize, short_repr
from nnc._utils.value import field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Out = NDArray[np.float32]

MIN_MEAN_WORDS = 3  # a column is free text if its cells have at least this number of words on average
MIN_WORD_ROWS = 10  # a word of the vocabulary is in at least this number of training rows, and as often absent
MAX_WORDS = 256  # maximum number of words in the vocabulary of a column
MAX_WORD_VALUES = 10_000_000  # maximum number of words in a vocabulary times training rows
CODE_WORDS = 32  # number of words that one number of an exported model represents
WORD = re.compile(rb"[0-9a-z\x80-\xff]+")  # all characters outside ASCII belong to words


def split_words(text: str) -> list[str]:
    """Return the words of a text in order; upper-case letters A to Z become lower-case letters."""
    encoded = text.encode("utf-8", "surrogatepass").lower()
    return [word.decode("utf-8", "surrogatepass") for word in WORD.findall(encoded)]


def word_list(name: str, value: Any) -> tuple[str, ...]:
    """Convert a list of one or more distinct words to a tuple; raise ValueError if `value` is anything else."""
    words = text_list(name, value)
    if not words or any(split_words(word) != [word] for word in words):
        raise ValueError(f"{name} must be a list of one or more lower-case words, got {short_repr(value)}")
    return words


class Words(WithIndicator):
    """Encoding of free text by its number of words n, and by the presence of the words of a vocabulary.

    The plain feature is 2 n / (n + mean) - 1, which is between -1 and 1, and 0 for a missing value. For each word of
    the vocabulary, an extra feature is 1 if the text contains the word and 0 otherwise. A word is a sequence of
    letters and digits; all characters outside ASCII are letters.

    Parameters
    ----------
    missing : float
        Fraction of the training rows without a value.
    mean : float
        Mean number of words in a text of the training rows.
    words : tuple of str
        Vocabulary. The order begins with the words that are in nearly half of the training rows.
    """

    type = "words"
    code_meaning = "the number of words"

    mean: float = field(check=check_positive)
    words: tuple[str, ...] = field(check=word_list)

    @classmethod
    def learn(cls, column: Column, counts: NDArray[Any], missing: float) -> Words | None:
        """Create the encoding of a text column, or return None if it has too few words or no frequent word.

        `counts` contains the number of training rows of each level.
        """
        n, n_spaced, n_words = int(counts.sum()), 0, 0
        rows: Counter[str] = Counter()  # for each word, the number of training rows that contain it
        for level, count in zip(column.levels, counts.tolist(), strict=True):
            if count:
                words = split_words(level)
                n_spaced += count * len(level.split())
                n_words += count * len(words)
                for word in set(words):
                    rows[word] += count
        if n_spaced < MIN_MEAN_WORDS * n:
            return None
        # Words that are in about half of the rows come first, because their features have the largest variance.
        words = [word for word, k in rows.items() if MIN_WORD_ROWS <= k <= n - MIN_WORD_ROWS and not word.isspace()]
        limit = min(MAX_WORDS, MAX_WORD_VALUES // len(column.values))
        vocabulary = tuple(sorted(words, key=lambda word: (abs(2 * rows[word] - n), word))[:limit])
        return cls(missing=missing, mean=n_words / n, words=vocabulary) if vocabulary else None

    @property
    def extra_width(self) -> int:
        """Number of extra features, one for each word of the vocabulary."""
        return len(self.words)

    @property
    def n_codes(self) -> int:
        """Number of inputs of exported models: one for the number of words, and one for each CODE_WORDS words."""
        return 1 + -(-len(self.words) // CODE_WORDS)

    def read_cells(self, column: Column) -> NDArray[Any]:
        """Return an array (n, n_codes) with the number of words of each cell, and bit masks of the vocabulary.

        Bit i of mask k is 1 if the cell contains the word CODE_WORDS * k + i. Missing cells have NaN.
        """
        if not column.is_text:
            if column.kind == "date" and not column.missing.all():
                raise wrong_kind_error(column, "text", int((~column.missing).argmax()))
            column = as_levels(column, ("0",))  # convert numbers to their usual spelling
        bits = {word: 1 << i for i, word in enumerate(self.words)}
        n_bytes = CODE_WORDS // 8 * (self.n_codes - 1)
        codes, masks = np.full((len(column.levels) + 1, self.n_codes), np.nan), []
        for i, level in enumerate(column.levels):
            words, mask = split_words(level), 0
            codes[i, 0] = len(words)
            for word in words:
                mask |= bits.get(word, 0)
            masks.append(mask.to_bytes(n_bytes, "little"))
        codes[:-1, 1:] = np.frombuffer(b"".join(masks), "<u4").reshape(-1, self.n_codes - 1)
        cells: NDArray[np.float64] = codes[column.values]
        return cells

    def write(self, cells: NDArray[Any], out: Out) -> None:
        """Write the features of `cells` (rows, n_codes) into `out` (rows, width)."""
        missing = np.isnan(cells[:, 0])
        n = np.where(missing, self.mean, cells[:, 0])
        out[:, 0] = 2 * n / (n + self.mean) - 1
        self.write_indicator(missing, out)

    def write_extra(self, cells: NDArray[Any], out: Out) -> None:
        """Write the presence of the words in `cells` (rows, n_codes) into `out` (rows, extra_width)."""
        masks = np.nan_to_num(cells[:, 1:]).astype("<u4", order="C")
        out[...] = np.unpackbits(masks.view(np.uint8), axis=1, count=self.extra_width, bitorder="little")

    def formulas(self) -> ColumnFormulas:
        """Return the formulas with which exported models compute the plain features from the number of words."""
        feature = f"0 if missing(x) else 2 * x / (x + {self.mean!r}) - 1"
        return ColumnFormulas((feature, *self.indicator_formulas()))

    def raw_columns(self, name: str, meaning: str) -> list[RawColumn]:
        """Describe the inputs of exported models: the number of words, and the bit masks."""
        columns = super().raw_columns(name, meaning)
        bit = "0 if missing(x) else floor(x / power) - 2 * floor(x / power / 2)"
        for start in range(0, len(self.words), CODE_WORDS):
            words = self.words[start : start + CODE_WORDS]
            formulas = ColumnFormulas(extra=(bit,), vectors={"power": [2.0**i for i in range(len(words))]})
            columns.append(RawColumn(name, "the sum of 2 ** i for the index i of each word", words, formulas, True))
        return columns

    def describe(self) -> str:
        """Return a short description of the encoding, for reports."""
        words = ", ".join(map(repr, self.words[:3]))
        return f"{pluralize(len(self.words), 'word')} such as {words}, and the number of words{self.missing_note()}"
