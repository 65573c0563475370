"""Text as tokens: pieces of words found by byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909).

The pieces are learned by the library sentencepiece. Using them needs no library: a vocabulary is a list of
strings, the same on every machine.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise

from leandnn.errors import LeandnnError

PAD, UNKNOWN, BEGIN, END = range(4)
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
SPACE = "\u2581"  # stands for the space before a word, as in sentencepiece


def normalise(text: str) -> str:
    """In lower case, Unicode NFC, and with single spaces between words alone."""
    return unicodedata.normalize("NFC", " ".join(text.lower().split()))


class Vocabulary:
    """Pieces of words by number: SPECIAL, then pieces made by merging in the order of the merges, then the rest.

    - pieces: distinct strings, the first four are SPECIAL; SPACE begins a word.

    LeandnnError for other pieces.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = tuple(pieces)
        if self.pieces[:4] != SPECIAL or len(set(self.pieces)) != len(self.pieces) or "" in self.pieces:
            raise LeandnnError(
                f"a vocabulary starts with {self.pieces[:4]} and has {len(set(self.pieces))} distinct pieces "
                f"of {len(self.pieces)}, expected {SPECIAL} and only distinct ones"
            )
        self._known: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.pieces) if i >= len(SPECIAL)}

    def encode(self, text: str) -> list[int]:
        """Numbers of a normalised text's pieces; UNKNOWN for characters that no piece has."""
        tokens: list[int] = []
        for word in text.split():
            if word not in self._known:
                self._known[word] = self._merged(SPACE + word)
            tokens += self._known[word]
        return tokens

    def _merged(self, word: str) -> list[int]:
        """Joins, again and again, the two neighbours that were joined first in learning."""
        number, parts = self._number, list(word)
        while len(parts) > 1:
            joined = [number.get(a + b, len(self)) for a, b in pairwise(parts)]
            best = min(joined)
            if best == len(self):
                break
            at = joined.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [number.get(part, UNKNOWN) for part in parts]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text up to END, without special tokens but UNKNOWN, which becomes "?".

        LeandnnError for a number that is no piece's.
        """
        parts = []
        for token in tokens:
            if not 0 <= token < len(self):
                raise LeandnnError(f"token {token} is not in a vocabulary of {len(self)} pieces")
            if token == END:
                break
            if token not in (PAD, BEGIN):
                parts.append("?" if token == UNKNOWN else self.pieces[token])
        return "".join(parts).replace(SPACE, " ").strip()


def learn(lines: Sequence[str], symbols: int) -> Vocabulary:
    """A vocabulary of `symbols` pieces from normalised lines.

    LeandnnError where sentencepiece is not installed, or the lines cannot give so many (or so few) pieces.
    """
    try:
        import sentencepiece
    except ImportError as error:
        raise LeandnnError(
            "a vocabulary is learned by sentencepiece: run `pip install sentencepiece`"
        ) from error
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=symbols,
            character_coverage=1.0, normalization_rule_name="identity", num_threads=1, minloglevel=2,
            pad_id=PAD, unk_id=UNKNOWN, bos_id=BEGIN, eos_id=END,
        )  # fmt: skip
    except (RuntimeError, OSError, ValueError) as error:
        raise LeandnnError(
            f"{len(lines)} lines cannot be cut into {symbols} pieces: {str(error).rpartition('] ')[2]}"
        ) from error
    learned = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return Vocabulary([learned.id_to_piece(i) for i in range(len(learned))])
