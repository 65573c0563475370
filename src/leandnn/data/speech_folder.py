"""Folders laid out as LibriSpeech is (Panayotov et al. 2015): speaker/chapter/*.flac with *.trans.txt.

WAV is read by the standard library, FLAC by the optional package soundfile.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from leandnn.data.speech import Utterances, encode
from leandnn.data.speech_features import log_mel
from leandnn.errors import LeandnnError
from leandnn.paths import relative

_SUFFIXES = (".wav", ".flac")


def load_folder(root: Path, *, count: int | None = None) -> Utterances:
    """The utterances below `root` (or the first `count`) in the order of their names.

    - root: a folder of speaker/chapter/, each chapter with <speaker>-<chapter>.trans.txt, a line
      "<utterance> TEXT" each, and <utterance>.flac or .wav beside it (one channel, 16 kHz or more).

    Texts are put into lower case. LeandnnError in one sentence for a folder without transcripts, a broken
    line, a character outside ALPHABET, sound that is missing, empty or unreadable, or FLAC without soundfile.
    """
    if count is not None and count < 1:
        raise LeandnnError(f"{count} utterances of {relative(root)} were asked for, expected 1 or more")
    features: list[Tensor] = []
    texts: list[str] = []
    speakers: list[str] = []
    for folder, name, text in _lines(root):
        features.append(_features(folder, name))
        texts.append(text)
        speakers.append(folder.parent.name)
        if len(texts) == count:
            break
    if count is not None and len(texts) < count:
        raise LeandnnError(
            f"{count} utterances of {relative(root)} were asked for, expected 1 to {len(texts)}"
        )
    frames = torch.tensor([len(item) for item in features])
    return Utterances(torch.cat(features), frames, tuple(texts), tuple(speakers))


def _lines(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Chapter folder, utterance and text of every line of every transcript."""
    transcripts = sorted(root.glob("*/*/*.trans.txt"))
    if not transcripts:
        raise LeandnnError(
            f"{relative(root)} has no speaker/chapter/*.trans.txt, expected LibriSpeech's layout"
        )
    for path in transcripts:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise LeandnnError(f"{relative(path)} is no readable UTF-8 text ({error})") from error
        if not any(line.strip() for line in lines):
            raise LeandnnError(f"{relative(path)} is empty, expected lines of an utterance and its text")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            name, _, text = line.strip().partition(" ")
            text = " ".join(text.lower().split())
            where = f"{relative(path)}, line {number},"
            if not text:
                raise LeandnnError(f"{where} is {line[:60]!r}, expected an utterance and its text")
            if Path(name).name != name:
                raise LeandnnError(f"{where} names {name[:60]!r}, expected a file of the same folder")
            try:
                encode(text)
            except LeandnnError as error:
                raise LeandnnError(f"{where} cannot be spelt: {error}") from error
            yield path.parent, name, text


def _features(folder: Path, name: str) -> Tensor:
    paths = [folder / f"{name}{suffix}" for suffix in _SUFFIXES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise LeandnnError(f"{relative(folder / name)} is neither there as .wav nor as .flac")
    samples, rate = _wav(path) if path.suffix == ".wav" else _flac(path)
    try:
        return log_mel(samples, rate)
    except LeandnnError as error:
        raise LeandnnError(f"{relative(path)} cannot be used: {error}") from error


def _wav(path: Path) -> tuple[Tensor, int]:
    """Samples, float64 (S,), and rate of a 16-bit file with one channel."""
    try:
        with wave.open(str(path), "rb") as sound:
            found = (sound.getnchannels(), sound.getsampwidth())
            data, rate = sound.readframes(sound.getnframes()), sound.getframerate()
    except (OSError, EOFError, wave.Error) as error:
        raise LeandnnError(
            f"{relative(path)} is no readable WAV file ({str(error) or 'it ends early'})"
        ) from error
    if found != (1, 2):
        raise LeandnnError(
            f"{relative(path)} has {found[0]} channels of {8 * found[1]} bits, expected one of 16 bits"
        )
    values = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float64) / 32768
    return torch.from_numpy(values), rate


def _flac(path: Path) -> tuple[Tensor, int]:
    """Likewise of a FLAC file."""
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise LeandnnError(
            f"{relative(path)} needs soundfile to be read ({error}): run `pip install soundfile`, or convert to WAV"
        ) from error
    try:
        values, rate = soundfile.read(path, dtype="float64")
    except (OSError, RuntimeError) as error:
        raise LeandnnError(f"{relative(path)} is no readable FLAC file ({error})") from error
    if values.ndim != 1:
        raise LeandnnError(f"{relative(path)} has {values.shape[1]} channels, expected one")
    return torch.from_numpy(values), int(rate)
