"""The parallel text that this project trains translators on: two Bibles in the public domain, verse by verse.

Source: the Debian packages sword-text-sparv (Reina-Valera 1909, Spanish) and sword-text-web (World English
Bible). Both hold a module of the SWORD project in its format zText: compressed books, and an index of entries,
which are headings of books and chapters, and verses in OSIS markup. How they become pairs:

1. Notes, cross references and all headings but the canonical ones (of psalms) are dropped, then all markup; what
   is left is normalised (see `text_vocabulary.normalise`), without spaces before punctuation.
2. Verses with equal chapter and number are a pair. Chapters that the two number differently are left out, and
   verses that one of them lacks.
3. Every twentieth chapter is for testing, so no test verse has its neighbours in training; a test verse which,
   in either language, also stands in training word by word is left out.
4. Each split is put in the order of the SHA-256 of the verses' names: the first n pairs are a random sample.
"""

from __future__ import annotations

import hashlib
import html
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from leandnn.data.debian import DebianPackage, read_members
from leandnn.data.prepared import DATASETS, Bytes, Dataset
from leandnn.data.text_vocabulary import Vocabulary, learn, normalise
from leandnn.errors import LeandnnError
from leandnn.paths import relative

SPLITS, SIDES = ("train", "test"), ("source", "target")
TEST_EVERY = 20  # chapters
_PARTS = [f"{book}.{kind}" for book in ("ot", "nt") for kind in ("bzs", "bzv", "bzz")]
_DROPPED = re.compile(
    r'<note\b.*?</note>|<rdg\b.*?</rdg>|<speaker\b.*?</speaker>|<title\b(?![^>]*canonical="true").*?</title>',
    re.DOTALL,
)
_TAG = re.compile(r"<[^>]*>")
_LOOSE = re.compile(r" (?=[,.;:?!)’”])")  # a note stood before it
_BOOK = re.compile(r'<div [^>]*\bsID="[^"]*" type="book"')  # its end has an eID and an osisID
_CHAPTER = re.compile(r'<chapter [^>]*osisID="([^"]+)"')

Verses = dict[tuple[str, int], str]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Bibles(Dataset):
    """Two Bibles as a data set: `train` and `test` pairs of verses.

    - packages, modules: of the source and of the target language.
    - symbols, spelt: pieces of the one vocabulary, and the bytes of their spelling, a line each.
    - tokens: of each split and side in all.
    """

    packages: tuple[DebianPackage, ...] = ()
    modules: tuple[str, ...] = ()
    symbols: int = 0
    spelt: int = 0
    tokens: Mapping[str, int] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The vocabulary; per split and side the tokens, end to end, and each sentence's number of tokens.

        All are uint8: numbers have two bytes, the lower first.
        """
        shapes: dict[str, tuple[int, ...]] = {"vocabulary": (self.spelt,)}
        for split, count in (("train", self.train), ("test", self.test)):
            for side in SIDES:
                shapes[f"{split}_{side}"] = (self.tokens[f"{split}_{side}"], 2)
                shapes[f"{split}_{side}_lengths"] = (count, 2)
        return shapes


def read_bibles(raw: Path, dataset: Dataset, tick: Callable[[], object]) -> dict[str, Bytes]:
    """All tensors of the prepared file from the packages in `raw`; `tick` is called after each.

    LeandnnError for a package that is not as expected, where sentencepiece is missing, and where its version
    learns another vocabulary.
    """
    assert isinstance(dataset, Bibles)
    bibles = []
    for package, module in zip(dataset.packages, dataset.modules, strict=True):
        path = raw / package.file
        folder = f"usr/share/sword/modules/texts/ztext/{module}"
        files = read_members(path, [f"{folder}/{part}" for part in _PARTS])
        parts = {name.rpartition("/")[2]: content for name, content in files.items()}
        bibles.append(verses(parts, relative(path)))
        tick()
    train, test = split(pair(*bibles))
    vocabulary = learn([line for verse in train for line in verse], dataset.symbols)
    tensors = tensors_of(vocabulary, {"train": train, "test": test})
    found = hashlib.sha256(tensors["vocabulary"].data).hexdigest()
    if found != dataset.digests.get("vocabulary", found):
        raise LeandnnError(
            f"sentencepiece learns a vocabulary with SHA-256 {found} from {dataset.name}, expected "
            f"{dataset.digests['vocabulary']}: run `pip install sentencepiece==0.2.3`"
        )
    return tensors


def tensors_of(vocabulary: Vocabulary, splits: Mapping[str, list[Pair]]) -> dict[str, Bytes]:
    """What the prepared file holds of these pairs; see Bibles.shapes."""
    spelt = "\n".join(vocabulary.pieces).encode()
    tensors = {"vocabulary": np.frombuffer(spelt, np.uint8)}
    for name, pairs in splits.items():
        for at, side in enumerate(SIDES):
            coded = [vocabulary.encode(verse[at]) for verse in pairs]
            flat = np.array([token for tokens in coded for token in tokens], "<u2")
            tensors[f"{name}_{side}"] = flat.view(np.uint8).reshape(-1, 2)
            lengths = np.array([len(tokens) for tokens in coded], "<u2")
            tensors[f"{name}_{side}_lengths"] = lengths.view(np.uint8).reshape(-1, 2)
    return tensors


# --- from modules to pairs -------------------------------------------------------------------------------


def verses(parts: Mapping[str, bytes], where: str) -> Verses:
    """Normalised verses by chapter ("Gen.1") and number, of a module's files by name ("ot.bzs", …).

    Empty where the module has a verse's place but no text. `where` names the module in the LeandnnError for
    files that are damaged.
    """
    found: Verses = {}
    for book in ("ot", "nt"):
        try:
            entries = _entries(*(parts[f"{book}.{kind}"] for kind in ("bzs", "bzv", "bzz")))
        except (struct.error, zlib.error, IndexError, UnicodeDecodeError) as error:
            raise LeandnnError(f"{where} is damaged: {book} is no zText module ({error})") from error
        chapter, number = None, 0
        for entry in entries:
            if heading := _CHAPTER.search(entry):
                chapter, number = heading[1], 0
            elif _BOOK.search(entry):
                chapter = None
            elif chapter:
                number += 1
                text = html.unescape(_TAG.sub("", _DROPPED.sub(" ", entry)))
                found[chapter, number] = _LOOSE.sub("", normalise(text))
    return found


def _entries(blocks: bytes, index: bytes, compressed: bytes) -> list[str]:
    """All entries of one testament, in order.

    - blocks: (offset, size, size unpacked) of each compressed block, uint32.
    - index: (block, offset within it, size) of each entry, uint32, uint32, uint16.
    """
    unpacked = [
        zlib.decompress(compressed[offset : offset + size])
        for offset, size, _ in struct.iter_unpack("<III", blocks)
    ]
    return [
        unpacked[block][offset : offset + size].decode() if size else ""
        for block, offset, size in struct.iter_unpack("<IIH", index)
    ]


def pair(source: Verses, target: Verses) -> dict[tuple[str, int], Pair]:
    """Verses of equal name, in the source's order, without chapters of different lengths and empty verses."""
    lengths = [Counter(chapter for chapter, _ in verses) for verses in (source, target)]
    return {
        name: (text, target[name])
        for name, text in source.items()
        if lengths[0][name[0]] == lengths[1][name[0]] and text and target[name]
    }


def split(pairs: Mapping[tuple[str, int], Pair]) -> tuple[list[Pair], list[Pair]]:
    """Training and test pairs in their final order; see the module."""
    chapters = dict.fromkeys(chapter for chapter, _ in pairs)
    held_out = set(list(chapters)[TEST_EVERY // 2 :: TEST_EVERY])
    order = sorted(pairs, key=lambda name: hashlib.sha256(f"{name[0]}:{name[1]}".encode()).digest())
    train = [pairs[name] for name in order if name[0] not in held_out]
    known = [set(side) for side in zip(*train, strict=True)]
    test = [pairs[name] for name in order if name[0] in held_out]
    return train, [(a, b) for a, b in test if a not in known[0] and b not in known[1]]


# --- the data set ----------------------------------------------------------------------------------------

TEXT = Bibles(
    name="text",
    classes=2000,
    train=29_560,
    test=1_476,
    archive="",
    url="",
    size=0,
    md5="",
    train_members=("spaRV1909eb",),
    test_members=("engWEB2015eb",),
    labels={},
    digests={
        "vocabulary": "f05b025c9109e1e66747b6ab7a242dfc418bc7fcabe6f9c134f3b5ca41ac2d58",
        "train_source": "fdb8eb2d72b0faaaede3b7418d6dd45b405e0f27f0598a8aacf4ef4a430a66b4",
        "train_source_lengths": "04cf29ce39e046537f3afb45a56a4c43dd09d96c361ef065d43cab17dc909ac8",
        "train_target": "3f488c2653a5f1788402bc517a489c6203a2607300657423b60ae9cc98c28e1e",
        "train_target_lengths": "08ce4e715a4d79ae76b7c92ef8aed9da4606a2e10b5972af6bcf65a958c10e20",
        "test_source": "692c1f5bc15898f19f4c8b852f542c307a98f3bb41b3853320a4c801f85d81c7",
        "test_source_lengths": "96a5a4f6196943460e10d6452276e418241d3da789db42c08392495fe4dc39d8",
        "test_target": "7b8aa3cd03750e5f7ac6346041767c4c2d0cad9ff5eff7d563d48adb7e73c6a8",
        "test_target_lengths": "2c2393e2b8d3456b203ce47261ea3b6793311e4cc9a6cfe5d09ed5c78cfc93a7",
    },
    packages=(
        DebianPackage(
            "sword-text-sparv", "2.60-1", 2_722_332,
            "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf",
        ),
        DebianPackage(
            "sword-text-web", "426.0-1", 3_956_428,
            "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1",
        ),
    ),
    modules=("spaRV1909eb", "engWEB2015eb"),
    symbols=2000,
    spelt=13_643,
    tokens={"train_source": 1_131_003, "train_target": 1_118_205, "test_source": 55_623, "test_target": 54_739},
)  # fmt: skip
DATASETS.setdefault(TEXT.name, TEXT)
