"""Digit strings spoken by espeak-ng's formant synthesis under noise: real signals, made-up speakers.

A speaker is a voice variant (formants, pitch, breath), an accent of English, and a range of rates and
pitches; training and test share no variant. What is drawn comes from PCG64's raw words, and the frames are
rounded as in speech_features; espeak's own samples are the same from run to run (speech_voice says how).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from leandnn import paths
from leandnn.data.prepared import Bytes, verify, write_prepared
from leandnn.data.speech import DIGITS, LONGEST, NO_DIGIT, WORDS, Digits
from leandnn.data.speech_features import log_mel
from leandnn.errors import LeandnnError
from leandnn.files import must_be_writable
from leandnn.paths import relative

SHORTEST = 3  # digits of an utterance
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-029", "en-gb-x-gbclan")
# Near relatives (klatt, klatt2, ...) stand in one split. Left out: whispers, robots, effects.
TRAIN_VARIANTS = (
    *("m1", "m2", "m4", "m5", "m6", "m8", "f1", "f3", "f4", "f5", "klatt", "klatt2", "klatt3", "klatt4"),
    *("Alex", "Andrea", "Andy", "Annie", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee"),
    *("Marco", "Mario", "Mike", "adam", "antonio", "aunty", "benjamin", "boris", "ed", "edward", "iven"),
    *("linda", "max", "paul", "steph", "steph2", "zac"),
)
TEST_VARIANTS = (
    "Alicia",
    "Denis",
    "Michael",
    "anika",
    "f2",
    "ian",
    "m3",
    "m7",
    "pablo",
    "robert",
    "travis",
    "victor",
)

# SHA-256 over the tensors' digests, made with espeak-ng 1.52.0 (espeakng-loader 0.2.4, Linux x86-64).
REFERENCE = "5918451859a9250c523a22ae8292f8d2431678d26b2afc35ebd2862a31d83eb4"


@dataclass(frozen=True)
class Script:
    """What one utterance is to be: all that is drawn, in plain numbers.

    - speaker: number of the speaker, those of training first.
    - voice, rate (words per minute), pitch (0 to 100): what espeak is asked for.
    - before, after: silence around the speech, ms.
    - snr: speech to noise, dB; smooth: the noise is a running mean of so many samples (1 is white).
    """

    speaker: int
    digits: tuple[int, ...]
    voice: str
    rate: int
    pitch: int
    before: int
    after: int
    snr: int
    smooth: int
    noise: int

    @property
    def text(self) -> str:
        """The digits as words."""
        return " ".join(WORDS[digit] for digit in self.digits)


def script(split: str, index: int, seed: int = 0) -> Script:
    """Utterance `index` of a split: a function of these three alone."""
    train = split == "train"
    variants = TRAIN_VARIANTS if train else TEST_VARIANTS
    stream = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0 if train else 1, index)))
    drawn = [int(word >> np.uint64(32)) for word in stream.random_raw(16)]
    own = index % len(variants)
    length = SHORTEST + drawn[0] % (LONGEST - SHORTEST + 1)
    return Script(
        speaker=own + (0 if train else len(TRAIN_VARIANTS)),
        digits=tuple(word % 10 for word in drawn[1 : 1 + length]),
        voice=f"{ACCENTS[own % len(ACCENTS)]}+{variants[own]}",
        rate=130 + 11 * own % 41 + drawn[8] % 21,
        pitch=30 + 7 * own % 31 + drawn[9] % 11,
        before=50 + drawn[10] % 151,
        after=50 + drawn[11] % 151,
        snr=5 + drawn[12] % 21,
        smooth=(1, 2, 4, 8)[drawn[13] % 4],
        noise=drawn[14],
    )


class Speaking:
    """A running speech_voice process; see `speaking`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._requests, self._answers = process.stdin, process.stdout
        try:
            greeting = json.loads(self._answers.readline())
        except ValueError:
            raise self._failure() from None
        self.rate, self.version = int(greeting["rate"]), str(greeting["version"])

    def say(self, lines: Script) -> npt.NDArray[np.int16]:
        """The samples of a script, without noise and silence around."""
        request = {"voice": lines.voice, "text": lines.text, "rate": lines.rate, "pitch": lines.pitch}
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        except OSError:
            raise self._failure() from None
        head = self._answers.read(4)
        size = 2 * int.from_bytes(head, "little")
        data = self._answers.read(size) if len(head) == 4 else b""
        if not size or len(data) != size:
            raise self._failure()
        return np.frombuffer(data, np.int16)

    def _failure(self) -> LeandnnError:
        _, message = self._process.communicate()
        lines = message.decode(errors="replace").strip().splitlines() or ["it ended without a word"]
        return LeandnnError(
            f"espeak-ng cannot speak ({lines[-1]}): run `pip install espeakng-loader` and the command again"
        )


@contextmanager
def speaking() -> Iterator[Speaking]:
    """A fresh espeak-ng, whose samples depend on the scripts it was given so far and on nothing else.

    LeandnnError where espeakng-loader is not installed or its library does not start.
    """
    command = [sys.executable, "-m", "leandnn.data.speech_voice"]
    # One locale for all machines; in plain C, Python could not read the path of an installation with an umlaut.
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
        try:
            yield Speaking(process)
        finally:
            process.kill()


def noisy(speech: npt.NDArray[np.int16], lines: Script, rate: int) -> npt.NDArray[np.float64]:
    """The speech with silence around it and noise over all, in [-1, 1) before the noise; float64 (S,)."""
    before, after = (ms * rate // 1000 for ms in (lines.before, lines.after))
    clean = np.pad(speech.astype(np.int64), (before, after))
    count, smooth = len(clean), lines.smooth
    words = np.random.PCG64(np.random.SeedSequence(lines.noise)).random_raw(count // 2 + smooth)
    # The sum of four bytes is about normal; sums of whole numbers are exact on every machine.
    noise = words.astype("<u8").view(np.uint8).reshape(-1, 4).sum(1, dtype=np.int64) - 510
    total = np.concatenate([np.zeros(1, np.int64), noise.cumsum()])
    noise = (total[smooth:] - total[:-smooth])[:count]
    speech_power = int((clean * clean).sum()) / max(len(speech), 1)
    noise_power = int((noise * noise).sum()) / count
    gain = (speech_power / noise_power / 10 ** (lines.snr / 10)) ** 0.5
    mixed: npt.NDArray[np.float64] = (clean + gain * noise) / 32768
    return mixed


def synthesise(scripts: Sequence[Script], *, quiet: bool = True) -> Iterator[Bytes]:
    """The frames of each script, uint8 (T, 40), in order; they depend on the scripts before them as well.

    LeandnnError as `speaking`.
    """
    with speaking() as voice:
        for lines in tqdm(scripts, desc="speaking", unit="utterance", disable=quiet or None):
            sound = noisy(voice.say(lines), lines, voice.rate)
            yield log_mel(torch.from_numpy(sound), voice.rate).numpy()


def tensors(dataset: Digits, seed: int = 0, *, quiet: bool = True) -> dict[str, Bytes]:
    """Every tensor of the prepared file; see Digits.shapes."""
    made: dict[str, Bytes] = {name: np.zeros(shape, np.uint8) for name, shape in dataset.shapes.items()}
    for split, count in (("train", dataset.train), ("test", dataset.test)):
        scripts = [script(split, index, seed) for index in range(count)]
        features, at = made[f"{split}_features"], 0
        made[f"{split}_digits"][:] = NO_DIGIT
        for index, frames in enumerate(synthesise(scripts, quiet=quiet)):
            if at + len(frames) > len(features):
                raise LeandnnError(
                    f"{dataset.name} {split} needs more than {len(features)} frames, expected at most "
                    f"{dataset.capacity} an utterance"
                )
            features[at : at + len(frames)] = frames
            at += len(frames)
            made[f"{split}_frames"][index] = divmod(len(frames), 256)[::-1]
            digits = scripts[index].digits
            made[f"{split}_digits"][index, : len(digits)] = digits
            made[f"{split}_speakers"][index] = scripts[index].speaker
    return made


def fetch(*, prepared: Path = paths.PREPARED, quiet: bool = False) -> Path:
    """Make `prepared/digits.safetensors` (a quarter of a minute) unless it is there and whole.

    LeandnnError as `speaking`, or where the file cannot be written.
    """
    target = prepared / f"{DIGITS.name}.safetensors"
    try:
        verify(DIGITS.name, prepared)
    except LeandnnError as error:
        if target.exists() and not quiet:
            print(f"making it anew, since {str(error).rpartition(': ')[0]}", flush=True)
    else:
        if not quiet:
            print(f"{relative(target)} is there and its digests are right", flush=True)
        return target
    must_be_writable(prepared)
    threads = torch.get_num_threads()
    # An utterance is too short to be shared: threads would only wait for one another.
    torch.set_num_threads(1)
    try:
        made = tensors(DIGITS, quiet=quiet)
    finally:
        torch.set_num_threads(threads)
    write_prepared(target, DIGITS, made)
    digests: dict[str, Any] = verify(DIGITS.name, prepared)
    found = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    if not quiet:
        print(f"wrote {relative(target)} ({target.stat().st_size} bytes)", flush=True)
        if found != REFERENCE:
            print(
                f"its digest is {found}, that of the reference {REFERENCE}: this machine's espeak-ng speaks "
                "otherwise, and runs on this data will be trained afresh",
                flush=True,
            )
    return target
