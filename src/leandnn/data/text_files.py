"""One's own corpus: two UTF-8 files, line n of the one a translation of line n of the other."""

from __future__ import annotations

import codecs
from pathlib import Path

import torch

from leandnn.data.text import Bitext, of_sentences
from leandnn.data.text_vocabulary import Vocabulary, learn, normalise
from leandnn.errors import LeandnnError
from leandnn.paths import relative


def load_files(
    source: Path | str, target: Path | str, vocabulary: Vocabulary | None = None, *, symbols: int = 2000
) -> Bitext:
    """The pairs of lines of two files, normalised (lower case, NFC, single spaces).

    - vocabulary: that of the training text when the test text is read; None learns one of `symbols` pieces
      from these lines, which needs sentencepiece.

    LeandnnError for a file that cannot be read, and, naming the file and the line, for a line that is not
    UTF-8, is empty, or has no partner.
    """
    paths = (Path(source), Path(target))
    sides = [_lines(path) for path in paths]
    shorter = 0 if len(sides[0]) < len(sides[1]) else 1
    if len(sides[0]) != len(sides[1]):
        raise LeandnnError(
            f"{relative(paths[1 - shorter])}, line {len(sides[shorter]) + 1} has no partner: "
            f"{relative(paths[shorter])} has {len(sides[shorter])} lines, expected {len(sides[1 - shorter])}"
        )
    if vocabulary is None:
        vocabulary = learn([line for side in sides for line in side], symbols)
    coded = [[torch.tensor(vocabulary.encode(line), dtype=torch.int32) for line in side] for side in sides]
    return of_sentences(coded[0], coded[1], vocabulary)


def _lines(path: Path) -> list[str]:
    """Normalised lines; a line ends at a line feed, with or without a carriage return, alone."""
    try:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise LeandnnError(
            f"{relative(path)} cannot be read ({error.strerror}): give a text file, one sentence a line"
        ) from error
    if not data:
        raise LeandnnError(f"{relative(path)} is empty, expected one sentence a line")
    lines = []
    for number, raw in enumerate(data.removesuffix(b"\n").split(b"\n"), 1):
        try:
            line = normalise(raw.decode())
        except UnicodeDecodeError as error:
            raise LeandnnError(
                f"{relative(path)}, line {number} is not UTF-8 (byte {error.object[error.start]:#04x} at "
                f"place {error.start + 1})"
            ) from error
        if not line:
            raise LeandnnError(f"{relative(path)}, line {number} is empty, expected a sentence")
        lines.append(line)
    return lines
