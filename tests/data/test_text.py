"""Parallel text: from SWORD modules in Debian packages to tokens, batches, and one's own files."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import shutil
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from leandnn import paths
from leandnn.data import prepared as prepared_file
from leandnn.data import sources, text, text_source
from leandnn.data.debian import DebianPackage, read_members
from leandnn.data.text import Batches, Bitext, of_sentences, unigram_loss
from leandnn.data.text_files import load_files
from leandnn.data.text_source import TEXT, Bibles, pair, split, tensors_of, verses
from leandnn.data.text_vocabulary import (
    BEGIN,
    END,
    PAD,
    SPACE,
    SPECIAL,
    UNKNOWN,
    Vocabulary,
    learn,
    normalise,
)
from leandnn.errors import LeandnnError

LETTERS = Vocabulary((*SPECIAL, *(SPACE + c for c in "abcdefgh"), *"abcdefgh"))

# --- vocabularies ----------------------------------------------------------------------------------------


def test_normalised_text_is_lower_case_and_single_spaced():
    assert normalise("  Él  dijo:\u00a0E\u0301l\tno\u2003SABE \n") == "él dijo: él no sabe"


def test_pieces_are_joined_in_the_order_they_were_learned():
    vocabulary = Vocabulary((*SPECIAL, "ab", "bc", "abc", SPACE + "a", SPACE, "a", "b", "c"))
    spelt = lambda line: [vocabulary.pieces[token] for token in vocabulary.encode(line)]  # noqa: E731
    assert spelt("bc") == [SPACE, "bc"]
    assert spelt("abc") == [SPACE, "abc"]  # ab before bc, and before "_a"
    assert spelt("a cab") == [SPACE + "a", SPACE, "c", "ab"]
    assert vocabulary.encode("bzb") == [8, 10, UNKNOWN, 10]
    assert vocabulary.encode(" ") == []


def test_decoding_undoes_encoding_and_stops_at_the_end_mark():
    tokens = LETTERS.encode("bad cab")
    assert LETTERS.decode(tokens) == "bad cab"
    assert LETTERS.decode([BEGIN, *tokens, END, 5, 5]) == "bad cab"
    assert LETTERS.decode([PAD, UNKNOWN]) == "?"
    with pytest.raises(LeandnnError, match="token 20 is not in a vocabulary of 20 pieces"):
        LETTERS.decode([20])


@pytest.mark.parametrize("pieces", [("a", "b"), (*SPECIAL, "a", "a"), (*SPECIAL, ""), SPECIAL[:3]], ids=str)
def test_a_list_that_is_no_vocabulary_is_refused(pieces: tuple[str, ...]):
    with pytest.raises(LeandnnError, match="a vocabulary starts with"):
        Vocabulary(pieces)


def test_a_learned_vocabulary_cuts_text_as_sentencepiece_does():
    sentencepiece = pytest.importorskip("sentencepiece")
    lines = [normalise(line) for line in (paths.ROOT / "README.md").read_text().splitlines() if line.strip()]
    vocabulary = learn(lines, 400)
    assert len(vocabulary) == 400
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=400,
        character_coverage=1.0, normalization_rule_name="identity", num_threads=2, minloglevel=2,
        pad_id=PAD, unk_id=UNKNOWN, bos_id=BEGIN, eos_id=END,
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    assert [vocabulary.encode(line) for line in lines] == [theirs.encode(line) for line in lines]
    assert [vocabulary.decode(vocabulary.encode(line)) for line in lines] == lines


def test_a_vocabulary_that_cannot_be_learned_is_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(LeandnnError, match="2 lines cannot be cut into 500 pieces"):
        learn(["ab", "ba"], 500)
    monkeypatch.setitem(__import__("sys").modules, "sentencepiece", None)
    with pytest.raises(LeandnnError, match="run `pip install sentencepiece`"):
        learn(["ab"], 6)


# --- SWORD modules ---------------------------------------------------------------------------------------


def heading(book: str, name: str) -> str:
    return f'<div canonical="true" osisID="{book}" sID="gen1" type="book"/> <title>{name}</title>'


def chapter(name: str) -> str:
    return f'<chapter n="1" osisID="{name}" sID="{name}"/>'


OLD = [
    "",
    "<milestone/>",
    heading("Gen", "Genesis"),
    chapter("Gen.1"),
    'In the <w lemma="strong:H7225">Beginning</w><note placement="foot"><reference>1 </reference>or, start</note>.',
    'God<note>Elohim</note><w lemma="strong:H0">made</w> &amp; saw<rdg type="alternate">looked</rdg>, so',
    chapter("Gen.2"),
    '<title canonical="true" type="psalm">A Song.</title> <lg/>Sing <l eID="1"/><l sID="2"/>now '
    "<speaker>Choir</speaker>“Oh<note>or, Ah</note>”  <title>Not canon</title>"
    '<chapter eID="Gen.2"/><div eID="gen1" osisID="Gen" type="book"/>',
]
NEW = ["", "<milestone/>", heading("Matt", "Matthew"), chapter("Matt.1"), "The book.", "", "Third"]
EXPECTED = {
    ("Gen.1", 1): "in the beginning.",
    ("Gen.1", 2): "god made & saw, so",
    ("Gen.2", 1): "a song. sing now “oh”",
    ("Matt.1", 1): "the book.",
    ("Matt.1", 2): "",
    ("Matt.1", 3): "third",
}


def module(old: list[str], new: list[str]) -> dict[str, bytes]:
    """The files of a zText module with two compressed blocks a testament."""
    parts = {}
    for book, entries in (("ot", old), ("nt", new)):
        blocks, index, packed = b"", b"", b""
        half = len(entries) // 2
        for number, block in enumerate((entries[:half], entries[half:])):
            content = b""
            for entry in block:
                data = entry.encode()
                index += struct.pack("<IIH", number, len(content), len(data))
                content += data
            squeezed = zlib.compress(content)
            blocks += struct.pack("<III", len(packed), len(squeezed), len(content))
            packed += squeezed
        parts |= {f"{book}.bzs": blocks, f"{book}.bzv": index, f"{book}.bzz": packed}
    return parts


def test_verses_are_read_without_notes_headings_and_markup():
    assert verses(module(OLD, NEW), "here") == EXPECTED


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("ot.bzs", lambda b: b[:-1]),
        ("nt.bzv", lambda b: b[:-3]),
        ("nt.bzz", lambda b: b"\0" + b[1:]),
        ("ot.bzv", lambda b: b[:-10] + struct.pack("<IIH", 7, 0, 1)),
        ("ot.bzz", lambda b: b[:20]),
    ],
)
def test_a_damaged_module_is_named(part: str, damage: Any):
    parts = module(OLD, NEW)
    parts[part] = damage(parts[part])
    with pytest.raises(LeandnnError, match=f"here is damaged: {part[:2]} is no zText module"):
        verses(parts, "here")


def test_pairs_lack_empty_verses_and_chapters_numbered_otherwise():
    other = {name: line.upper() for name, line in EXPECTED.items()}
    other["Gen.2", 2] = "one verse more"
    assert list(pair(EXPECTED, other)) == [("Gen.1", 1), ("Gen.1", 2), ("Matt.1", 1), ("Matt.1", 3)]
    assert pair(EXPECTED, other)["Matt.1", 3] == ("third", "THIRD")


def test_no_test_verse_has_its_chapter_or_its_double_in_training():
    pairs = {(f"B.{c}", v): (f"s{c}.{v}", f"t{c}.{v}") for c in range(60) for v in range(5)}
    pairs["B.10", 2] = ("s3.1", "other")  # a sentence that training has, in one language
    pairs["B.50", 4] = ("other", "t8.0")
    train, test = split(pairs)
    held = {name for name in pairs if int(name[0][2:]) % 20 == 10} - {("B.10", 2), ("B.50", 4)}
    assert sorted(test) == sorted(pairs[name] for name in held)
    assert sorted(train) == sorted(line for name, line in pairs.items() if int(name[0][2:]) % 20 != 10)
    assert {a for a, _ in train}.isdisjoint(a for a, _ in test)
    chapters = [int(a[1:].partition(".")[0]) for a, _ in train[:40]]
    assert len(set(chapters)) > 20, "the first pairs are no sample of all"
    assert split(dict(reversed(pairs.items())))[0] != train  # which chapters are held out follows their order


# --- Debian packages and fetching ------------------------------------------------------------------------


def debian(path: Path, files: Mapping[str, bytes], kind: str = "xz") -> Path:
    """A package in the format of deb(5), with an odd-sized member before the data."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{kind}") as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    members = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", b"odd"),
        (f"data.tar.{kind}", stream.getvalue()),
    ]
    data = b"!<arch>\n"
    for name, content in members:
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        data += b"\n" * (len(content) % 2)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["xz", "gz"])
def test_members_of_a_package_are_read(tmp_path: Path, kind: str):
    path = debian(tmp_path / "a.deb", {"usr/share/x": b"X" * 999, "usr/y": b""}, kind)
    assert read_members(path, ["usr/share/x"]) == {"usr/share/x": b"X" * 999}
    with pytest.raises(LeandnnError, match="lacks 1 files: usr/z"):
        read_members(path, ["usr/z", "usr/y"])


def test_what_is_no_package_is_refused(tmp_path: Path):
    good = debian(tmp_path / "a.deb", {"x": b"1"}).read_bytes()
    path = tmp_path / "b.deb"
    cases = {
        b"PK" + good: "is no Debian package: it starts with",
        good[:100]: "holds no data.tar$",
        good[:-100]: "holds no readable data.tar",
        good.replace(b"data.tar.xz", b"date.tar.xz"): "holds no data.tar$",
        good[:56] + b"x" + good[57:]: "holds no data.tar$",
    }
    for data, message in cases.items():
        path.write_bytes(data)
        with pytest.raises(LeandnnError, match=message):
            read_members(path, ["x"])


@dataclasses.dataclass
class Small:
    """Two small Bibles in packages, and the folders to fetch them into."""

    spec: Bibles
    good: list[Path]
    raw: Path
    prepared: Path

    def fetch(self) -> Path:
        return sources.fetch("text", raw=self.raw, prepared=self.prepared, quiet=True)

    def put(self) -> None:
        self.raw.mkdir(exist_ok=True)
        for path in self.good:
            shutil.copy(path, self.raw)


def bible(word: str) -> dict[str, bytes]:
    old = ["", ""]
    for c in range(1, 41):
        old += [chapter(f"Gen.{c}"), *(f"{word} {c} the {'xyz'[v]} of {word}{c * v}" for v in range(3))]
    return module(old, ["", ""])


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    pytest.importorskip("sentencepiece")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    packages, good, bibles = [], [], []
    for name, word in (("es", "verso"), ("en", "verse")):
        parts = bible(word)
        folder = f"usr/share/sword/modules/texts/ztext/{name}"
        path = debian(
            tmp_path / "from" / f"{name}_1.0-1_all.deb", {f"{folder}/{p}": d for p, d in parts.items()}
        )
        good.append(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        packages.append(DebianPackage(name, "1.0-1", path.stat().st_size, digest))
        bibles.append(verses(parts, name))
    train, test = split(pair(*bibles))
    vocabulary = learn([line for both in train for line in both], 60)
    tensors = tensors_of(vocabulary, {"train": train, "test": test})
    spec = dataclasses.replace(
        TEXT,
        train=len(train),
        test=len(test),
        packages=tuple(packages),
        modules=("es", "en"),
        symbols=60,
        spelt=len(tensors["vocabulary"]),
        tokens={n: len(tensors[n]) for n in ("train_source", "train_target", "test_source", "test_target")},
        digests={name: hashlib.sha256(tensor.tobytes()).hexdigest() for name, tensor in tensors.items()},
    )
    monkeypatch.setitem(prepared_file.DATASETS, "text", spec)
    monkeypatch.setattr(text, "TEXT", spec)
    return Small(spec, good, tmp_path / "raw", tmp_path / "prepared")


def test_packages_put_into_raw_are_prepared_and_read_back(small: Small):
    small.put()
    path = small.fetch()
    before = path.read_bytes()
    path.unlink()
    assert small.fetch().read_bytes() == before
    train, test = (text.load(split, prepared=small.prepared) for split in ("train", "test"))
    assert (len(train), len(test)) == (small.spec.train, small.spec.test) == (38 * 3, 2 * 3)
    spanish, english = train.texts()
    assert all(line.startswith("verso ") for line in spanish)
    assert [line.replace("verso", "verse") for line in spanish] == english
    assert prepared_file.verify("text", small.prepared) == dict(small.spec.digests)
    assert "is present" in sources.status("text", small.prepared)


def test_a_sample_of_short_pairs_is_their_beginning(small: Small):
    small.put()
    small.fetch()
    whole = text.load(prepared=small.prepared)
    limit = int(torch.maximum(whole.source_lengths, whole.target_lengths).median())
    short = text.load(longest=limit, prepared=small.prepared)
    assert 0 < len(short) < len(whole)
    assert int(torch.maximum(short.source_lengths, short.target_lengths).max()) <= limit
    first = text.load(longest=limit, count=5, prepared=small.prepared)
    assert first.texts() == tuple(side[:5] for side in short.texts())
    with pytest.raises(LeandnnError, match=f"{len(short) + 1} pairs .* expected 1 to {len(short)}"):
        text.load(longest=limit, count=len(short) + 1, prepared=small.prepared)
    with pytest.raises(LeandnnError, match="expected 1 to 0"):
        text.load(longest=1, prepared=small.prepared)
    with pytest.raises(LeandnnError, match="no split 'dev'"):
        text.load("dev", prepared=small.prepared)


@pytest.mark.parametrize("name", ["train_source", "train_source_lengths", "vocabulary"])
def test_impossible_numbers_in_the_prepared_file_are_damage(small: Small, name: str):
    small.put()
    path = small.fetch()
    start, _ = prepared_file.read_header(path, small.spec)
    _, begin, _ = prepared_file.layout(small.spec)[name]
    data = bytearray(path.read_bytes())
    data[start + begin : start + begin + 2] = b"\xff\xff"
    path.write_bytes(data)
    with pytest.raises(LeandnnError, match=r"is damaged: .* run `leandnn data fetch text`"):
        text.load(prepared=small.prepared)
    with pytest.raises(LeandnnError, match=f"{name} has SHA-256"):
        prepared_file.verify("text", small.prepared)


def test_an_altered_package_stops_the_fetch(small: Small):
    small.put()
    target = small.raw / small.good[1].name
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(LeandnnError, match=r"en_1.0-1_all.deb is truncated or altered: .* delete it"):
        small.fetch()
    (small.raw / small.good[0].name).unlink()  # and also where the other has to be fetched
    with pytest.raises(LeandnnError, match="apt-get, which is not on the PATH"):
        small.fetch()


def test_without_packages_and_apt_the_message_says_what_to_do(small: Small):
    with pytest.raises(LeandnnError) as caught:
        small.fetch()
    message = str(caught.value)
    assert "text cannot be had from any of its 2 sources" in message
    assert "es_1.0-1_all.deb is not there" in message
    assert "apt-get download es=1.0-1 needs apt-get" in message
    assert "data/README.md says what to put into" in message


def test_the_room_that_is_asked_for_is_the_texts(small: Small, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(small.raw.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=29_000_000))
    with pytest.raises(LeandnnError, match="29 MB free, but text needs 30 MB"):
        small.fetch()


def test_apt_fetches_what_is_missing(small: Small, monkeypatch: pytest.MonkeyPatch):
    small.put()
    (small.raw / small.good[0].name).unlink()
    asked = []

    def apt(command: list[str], *, cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        shutil.copy(small.good[0], cwd)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(shutil, "which", lambda _: "apt-get")
    monkeypatch.setattr(subprocess, "run", apt)
    small.fetch()
    assert [command[-1] for command in asked] == ["es=1.0-1"]
    assert sorted(path.name for path in small.raw.iterdir()) == ["en_1.0-1_all.deb", "es_1.0-1_all.deb"]


@pytest.mark.parametrize(
    ("status", "stderr", "content", "message"),
    [
        (
            100,
            "E: Unable to locate package es\n",
            None,
            r"status 100 \(Unable to locate package es\); `apt-get up",
        ),
        (0, "", None, "delivered no es_1.0-1_all.deb"),
        (0, "", b"other", "delivered 5 bytes with SHA-256 d9298a1"),
    ],
)
def test_apt_that_does_not_deliver_is_no_source(
    small: Small,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    stderr: str,
    content: bytes | None,
    message: str,
):
    def apt(command: list[str], *, cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        if content is not None:
            (cwd / "es_1.0-1_all.deb").write_bytes(content)
        return subprocess.CompletedProcess(command, status, "", stderr)

    monkeypatch.setattr(shutil, "which", lambda _: "apt-get")
    monkeypatch.setattr(subprocess, "run", apt)
    with pytest.raises(LeandnnError, match=message):
        small.fetch()
    assert list(small.raw.iterdir()) == []


def test_another_vocabulary_than_the_pinned_one_is_refused(small: Small, monkeypatch: pytest.MonkeyPatch):
    small.put()
    changed = dataclasses.replace(small.spec, digests={**small.spec.digests, "vocabulary": "0" * 64})
    monkeypatch.setitem(prepared_file.DATASETS, "text", changed)
    with pytest.raises(LeandnnError, match=r"sentencepiece learns a vocabulary .* sentencepiece==0\.2\.3"):
        small.fetch()


# --- pairs and batches -----------------------------------------------------------------------------------


def bitext(count: int = 40, seed: int = 0) -> Bitext:
    generator = torch.Generator().manual_seed(seed)

    def line(longest: int) -> torch.Tensor:
        length = int(torch.randint(1, longest + 1, (1,), generator=generator))
        return torch.randint(4, len(LETTERS), (length,), generator=generator, dtype=torch.int32)

    return of_sentences([line(9) for _ in range(count)], [line(12) for _ in range(count)], LETTERS)


def test_a_batch_holds_its_pairs_between_begin_and_end():
    pairs = bitext()
    batch = Batches(pairs, 8, seed=0).batch([3, 0, 7])
    assert len(batch) == 3
    for row, i in enumerate((3, 0, 7)):
        source, target = (side[i].tolist() for side in pairs.sentences())
        assert batch.lengths[row] == len(source)
        pad = batch.source.shape[1] - len(source)
        assert batch.source[row].tolist() == source + [PAD] * pad
        pad = batch.inputs.shape[1] - 1 - len(target)
        assert batch.inputs[row].tolist() == [BEGIN, *target] + [PAD] * pad
        assert batch.targets[row].tolist() == [*target, END] + [PAD] * pad
    assert batch.source.dtype == batch.inputs.dtype == batch.targets.dtype == torch.int64


def test_an_epoch_depends_on_its_seed_and_is_entered_anywhere():
    pairs = bitext(43)
    batches = Batches(pairs, 4, seed=1)
    assert len(batches) == 10
    whole = [batch.targets for batch in batches.epoch(2)]
    again = [batch.targets for batch in Batches(pairs, 4, seed=1).epoch(2, start=6)]
    assert len(whole) == 10
    assert all(torch.equal(a, b) for a, b in zip(whole[6:], again, strict=True))
    for other in (Batches(pairs, 4, seed=2).epoch(2), batches.epoch(3)):
        assert not all(torch.equal(a, b.targets) for a, b in zip(whole, other, strict=True))
    rows = torch.cat(Batches(pairs, 4, seed=1)._plan(2))
    assert len(set(rows.tolist())) == 40


def test_batches_are_of_about_equal_length():
    pairs = bitext(600)
    plan = Batches(pairs, 8, seed=0)._plan(0)
    spread = [float(pairs.target_lengths[rows].max() - pairs.target_lengths[rows].min()) for rows in plan]
    assert np.mean(spread) < 1.5
    lengths = [float(pairs.target_lengths[rows].float().mean()) for rows in plan]
    assert lengths != sorted(lengths)


def test_evaluation_sees_every_pair_once():
    pairs = bitext(23)
    found = list(Batches(pairs, 1, seed=0).evaluation(5))
    assert [len(batch) for batch in found] == [5, 5, 5, 5, 3]
    tokens = sum(int((batch.targets != PAD).sum()) for batch in found)
    assert tokens == len(pairs.target) + 23


def test_what_is_no_batch_is_refused():
    pairs = bitext()
    with pytest.raises(LeandnnError, match="an empty batch was asked for"):
        Batches(pairs, 8, seed=0).batch([])
    for size in (0, 41):
        with pytest.raises(LeandnnError, match=f"batch size is {size}, expected 1 to 40"):
            Batches(pairs, size, seed=0)
    with pytest.raises(LeandnnError, match="seed is -1"):
        Batches(pairs, 8, seed=-1)
    with pytest.raises(LeandnnError, match="epoch 0, step 6 is not in the data"):
        Batches(pairs, 8, seed=0).epoch(0, 6)
    with pytest.raises(LeandnnError, match="batch size is 0"):
        Batches(pairs, 8, seed=0).evaluation(0)


def test_pairs_without_tokens_or_partners_are_refused():
    one, none = torch.tensor([5], dtype=torch.int32), torch.tensor([], dtype=torch.int32)
    with pytest.raises(LeandnnError, match="0 source and 0 target sentences"):
        of_sentences([], [], LETTERS)
    with pytest.raises(LeandnnError, match="2 source and 1 target sentences"):
        of_sentences([one, one], [one], LETTERS)
    with pytest.raises(LeandnnError, match="pair 1 has 1 source and 0 target tokens"):
        of_sentences([one, one], [one, none], LETTERS)


def test_the_loss_without_context_is_that_of_frequencies():
    train, test = bitext(200, 0), bitext(50, 1)
    counts = np.ones(len(LETTERS))
    for sentence in train.sentences()[1]:
        for token in [*sentence.tolist(), END]:
            counts[token] += 1
    logs = np.log(counts / counts.sum())
    tokens = [token for sentence in test.sentences()[1] for token in [*sentence.tolist(), END]]
    assert unigram_loss(train, test) == pytest.approx(-logs[tokens].mean())
    assert unigram_loss(train, test) < math.log(len(LETTERS))


# --- one's own files -------------------------------------------------------------------------------------


def two_files(folder: Path, source: bytes, target: bytes) -> tuple[Path, Path]:
    (folder / "a.es").write_bytes(source)
    (folder / "a.en").write_bytes(target)
    return folder / "a.es", folder / "a.en"


def test_ones_own_files_are_paired_line_by_line(tmp_path: Path):
    files = two_files(tmp_path, b"\xef\xbb\xbfBad CAB\r\na b\n", b"cab  bad\nhead")
    pairs = load_files(*files, LETTERS)
    assert pairs.texts() == (["bad cab", "a b"], ["cab bad", "head"])
    assert pairs.vocabulary is LETTERS


def test_a_vocabulary_is_learned_from_ones_own_training_files(tmp_path: Path):
    pytest.importorskip("sentencepiece")
    lines = b"\n".join(b"the cat sat on the mat %d" % i for i in range(50))
    pairs = load_files(*two_files(tmp_path, lines, lines.upper()), symbols=40)
    assert len(pairs.vocabulary) == 40
    assert pairs.texts()[0] == pairs.texts()[1] == lines.decode().split("\n")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (b"a\nb\nc\n", b"a\nb\n", r"a\.es, line 3 has no partner: .*a\.en has 2 lines, expected 3"),
        (b"a\n", b"a\nb\nc", r"a\.en, line 2 has no partner"),
        (b"a\n \t\nc\n", b"a\nb\nc\n", r"a\.es, line 2 is empty"),
        (b"a\nb\n", b"a\n\n", r"a\.en, line 2 is empty"),
        (b"a\nb\xff\n", b"a\nb\n", r"a\.es, line 2 is not UTF-8 \(byte 0xff at place 2\)"),
        (b"", b"a\n", r"a\.es is empty"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, source: bytes, target: bytes, message: str):
    with pytest.raises(LeandnnError, match=message):
        load_files(*two_files(tmp_path, source, target), LETTERS)


def test_a_missing_file_is_named(tmp_path: Path):
    files = two_files(tmp_path, b"a\n", b"a\n")
    with pytest.raises(LeandnnError, match=r"b\.en cannot be read \(No such file"):
        load_files(files[0], tmp_path / "b.en", LETTERS)


# --- the real text ---------------------------------------------------------------------------------------


def test_the_pinned_numbers_agree_with_one_another():
    assert set(TEXT.digests) == set(TEXT.shapes)
    assert TEXT.tokens.keys() == {"train_source", "train_target", "test_source", "test_target"}
    assert prepared_file.DATASETS["text"] is TEXT is text_source.TEXT


@pytest.mark.skipif(
    not (paths.PREPARED / "text.safetensors").exists(),
    reason="NOT CHECKED, the Bibles: run `leandnn data fetch text`",
)
def test_the_prepared_bibles_are_translations_of_one_another():
    assert prepared_file.verify("text") == dict(TEXT.digests)
    train, test = text.load(longest=32), text.load("test", longest=32)
    assert (len(train), len(test)) == (11_423, 566)
    spanish, english = test.texts()
    # Names go through unchanged: where the English verse has one of these, so has the Spanish.
    for name in ("moab", "aaron"):
        marked = [es for es, en in zip(spanish, english, strict=True) if name in en]
        assert sum(name in es.replace("ó", "o") for es in marked) > 0.8 * len(marked) > 0
    assert set(spanish).isdisjoint(train.texts()[0])
