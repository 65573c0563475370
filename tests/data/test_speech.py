"""Speech: features, batches, synthesis by espeak-ng, and folders laid out as LibriSpeech is."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import platform
import re
import subprocess
import sys
import venv
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from leandnn.data import speech, speech_synthesis
from leandnn.data.prepared import DATASETS, digest, verify, write_prepared
from leandnn.data.speech import Batches, Utterances
from leandnn.data.speech_features import FLOOR_DB, HIGH_HZ, LOW_HZ, MELS, STEP_DB, log_mel
from leandnn.data.speech_folder import load_folder
from leandnn.errors import LeandnnError

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="NOT CHECKED, synthesis: espeakng-loader is not installed",
)


def tone(hz: float, rate: int = 22050, seconds: float = 0.5) -> Tensor:
    return torch.sin(2 * torch.pi * hz * torch.arange(int(rate * seconds), dtype=torch.float64) / rate)


# --- features --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_a_tone_is_loudest_in_the_band_of_its_frequency(rate: int):
    mel = lambda hz: 2595 * np.log10(1 + hz / 700)  # noqa: E731
    for hz in (300.0, 1000.0, 4000.0):
        frames = log_mel(tone(hz, rate), rate)
        assert frames.dtype == torch.uint8
        width = (mel(HIGH_HZ) - mel(LOW_HZ)) / (MELS + 1)
        expected = (mel(hz) - mel(LOW_HZ)) / width - 1
        assert (frames.float().mean(0).argmax() - expected).abs() <= 1


def test_levels_are_decibels_below_a_full_scale_sine():
    loud = log_mel(tone(1000.0), 22050).double().amax(1) * STEP_DB + FLOOR_DB
    quiet = log_mel(tone(1000.0) / 10, 22050).double().amax(1) * STEP_DB + FLOOR_DB
    assert (loud.abs() < 3).all()
    assert ((loud - quiet - 20).abs() <= STEP_DB).all()
    assert (log_mel(torch.zeros(4000), 22050) == 0).all()


def test_there_is_a_frame_for_each_whole_window():
    for samples, frames in ((512, 1), (767, 1), (768, 2), (22050, 85)):
        assert log_mel(torch.zeros(samples), 22050).shape == (frames, MELS)


def test_bytes_do_not_depend_on_how_the_transform_is_computed():
    noise = torch.randn(6000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 10
    lines = torch.arange(257, dtype=torch.float64)[:, None] * torch.arange(512, dtype=torch.float64)
    turn = torch.exp(-2j * torch.pi * (lines % 512) / 512)
    whole = torch.fft.rfft

    def by_products(x: Tensor, size: int) -> Tensor:
        assert size == 512
        return x.to(torch.complex128) @ turn.t()

    first = log_mel(noise, 22050)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.fft, "rfft", by_products)
        second = log_mel(noise, 22050)
    assert torch.fft.rfft is whole
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (torch.zeros(2, 4000), 22050, "has shape (2, 4000) at 22050 Hz, expected (S,)"),
        (torch.zeros(4000), 8000, "at 8000 Hz, expected (S,) at 16000 Hz or more"),
        (torch.zeros(100), 22050, "has 100 samples, expected at least 512"),
        (torch.full((4000,), torch.nan), 22050, "not finite"),
    ],
)
def test_unusable_sound_is_refused(samples: Tensor, rate: int, message: str):
    with pytest.raises(LeandnnError, match=re.escape(message)):
        log_mel(samples, rate)


# --- batches ---------------------------------------------------------------------------------------------


def made_up(count: int = 40) -> Utterances:
    """Utterance i is named by its text; its bytes are all distinct from its neighbours'."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(5, 30, (count,), generator=generator)
    features = torch.randint(0, 256, (int(frames.sum()), MELS), generator=generator, dtype=torch.uint8)
    names = tuple(speech.WORDS[i // 10] + " " + speech.WORDS[i % 10] for i in range(count))
    return Utterances(features, frames, names, ("x",) * count)


def test_a_batch_holds_normalised_utterances_and_zeros():
    data = made_up()
    batch = Batches(data, 4, seed=0).batch([3, 17])
    parts = data.features.split(data.frames.tolist())
    for i, number in enumerate((3, 17)):
        part = parts[number].double()
        expected = (part - part.mean()) / part.std(correction=0)
        length = len(part)
        torch.testing.assert_close(batch.features[i, :length].double(), expected, rtol=0, atol=1e-5)
        assert (batch.features[i, length:] == 0).all()
    assert batch.texts == (data.texts[3], data.texts[17])
    assert batch.frames.tolist() == [len(parts[3]), len(parts[17])]


def test_an_epoch_depends_on_its_number_and_the_seed_alone():
    data = made_up()
    batches = Batches(data, 4, seed=0)
    texts = [[b.texts for b in batches.epoch(e)] for e in range(3)]
    assert texts[1] != texts[2]
    again = Batches(data, 4, seed=0)
    assert [b.texts for b in again.epoch(2, 7)] == texts[2][7:]
    assert [b.texts for b in Batches(data, 4, seed=1).epoch(2)] != texts[2]
    for epoch in texts:
        assert len(epoch) == len(batches) == 10
        assert sorted(t for batch in epoch for t in batch) == sorted(data.texts)


def test_an_augmented_epoch_is_the_same_when_resumed():
    data = made_up(80)
    plain, augmented = Batches(data, 16, seed=0), Batches(data, 16, seed=0, augment=True)
    shifts, masked = set(), set()
    first = list(augmented.epoch(1))
    for whole, moved in zip(plain.epoch(1), first, strict=True):
        assert whole.texts == moved.texts
        for i, length in enumerate(whole.frames.tolist()):
            before, after = whole.features[i, :length], moved.features[i, :length]
            assert (moved.features[i, length:] == 0).all()
            kept = (after != 0).any(0)
            masked.add(MELS - int(kept.sum()))
            gone = (~kept).nonzero().squeeze(1)
            assert len(gone) == 0 or len(gone) == int(gone.max() - gone.min()) + 1  # side by side
            bands = torch.arange(MELS)
            fits = [
                shift
                for shift in range(-2, 3)
                if torch.equal(before[:, (bands + shift).clamp(0, MELS - 1)][:, kept], after[:, kept])
            ]
            assert len(fits) == 1
            shifts.add(fits[0])
    assert shifts == {-2, -1, 0, 1, 2}
    assert masked == {0, 1, 2, 3, 4, 5, 6}
    again = Batches(data, 16, seed=0, augment=True)
    for one, other in zip(first[3:], again.epoch(1, 3), strict=True):
        assert torch.equal(one.features, other.features)
    differs = [torch.equal(a.features, b.features) for a, b in zip(first, augmented.epoch(2), strict=True)]
    assert not any(differs)
    for one, other in zip(plain.evaluation(9), augmented.evaluation(9), strict=True):
        assert torch.equal(one.features, other.features)


def test_the_first_epoch_goes_from_short_to_long():
    batches = Batches(made_up(), 4, seed=0)
    first = torch.cat([b.frames for b in batches.epoch(0)])
    assert torch.equal(first, first.sort().values)
    spread = torch.stack([b.frames.amax() - b.frames.amin() for b in batches.epoch(5)])
    assert spread.float().mean() < 5  # of 25, were they mixed


def test_evaluation_sees_every_utterance_once():
    data = made_up(10)
    batches = list(Batches(data, 3, seed=0).evaluation(4))
    assert [len(b.texts) for b in batches] == [4, 4, 2]
    assert sorted(t for b in batches for t in b.texts) == sorted(data.texts)


def test_batches_refuse_what_is_out_of_range():
    data = made_up(10)
    for size, seed, message in (
        (0, 0, "batch size is 0"),
        (11, 0, "batch size is 11"),
        (2, -1, "seed is -1"),
    ):
        with pytest.raises(LeandnnError, match=message):
            Batches(data, size, seed=seed)
    with pytest.raises(LeandnnError, match="epoch 0, step 6"):
        Batches(data, 2, seed=0).epoch(0, 6)
    with pytest.raises(LeandnnError, match="batch size is 0"):
        Batches(data, 2, seed=0).evaluation(0)
    with pytest.raises(LeandnnError, match="a batch of 0 utterances"):
        Batches(data, 2, seed=0).batch([])


def test_texts_are_spelt_in_the_alphabet():
    assert speech.encode("a 'z") == [3, 1, 2, 28]
    assert len(speech.ALPHABET) == 29
    for bad in ("A", "_", "é"):
        with pytest.raises(LeandnnError, match="expected a to z"):
            speech.encode(f"ab{bad}")


# --- the prepared file -----------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> speech.Digits:
    dataset = dataclasses.replace(speech.DIGITS, train=12, test=6, capacity=250)
    monkeypatch.setattr(speech, "DIGITS", dataset)
    monkeypatch.setattr(speech_synthesis, "DIGITS", dataset)
    monkeypatch.setitem(DATASETS, "digits", dataset)
    return dataset


@needs_espeak
def test_digits_are_spoken_stored_and_loaded(
    tiny: speech.Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = speech_synthesis.fetch(prepared=tmp_path)
    assert "wrote" in capsys.readouterr().out
    whole = path.read_bytes()
    assert speech_synthesis.fetch(prepared=tmp_path) == path
    assert "is there and its digests are right" in capsys.readouterr().out
    train, test = (speech.load(split, prepared=tmp_path) for split in ("train", "test"))
    assert (len(train), len(test)) == (12, 6)
    assert not set(train.speakers) & set(test.speakers)
    scripts = [speech_synthesis.script("train", i) for i in range(12)]
    assert train.texts == tuple(s.text for s in scripts)
    frames = [torch.from_numpy(f) for f in speech_synthesis.synthesise(scripts)]
    assert torch.equal(train.features, torch.cat(frames))
    assert train.frames.tolist() == [len(f) for f in frames]
    few = speech.load("train", count=5, prepared=tmp_path)
    assert few.texts == train.texts[:5]
    assert torch.equal(few.features, torch.cat(frames[:5]))

    # Bit by bit the same when made again; damage is found and mended.
    before = digest("digits", tmp_path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(LeandnnError, match=r"damaged.*run `leandnn data fetch digits`"):
        verify("digits", tmp_path)
    speech_synthesis.fetch(prepared=tmp_path)
    assert "making it anew" in capsys.readouterr().out
    assert path.read_bytes() == whole
    assert digest("digits", tmp_path) == before


@needs_espeak
def test_speech_is_louder_than_its_noise_and_voices_differ():
    scripts = [speech_synthesis.script("test", i) for i in range(6)]
    clean = [dataclasses.replace(s, snr=60, before=300) for s in scripts]
    spoken = list(speech_synthesis.synthesise(clean))
    for frames in spoken:
        assert frames[40:-20].mean() > frames[:15].mean() + 40  # 16 dB
        assert len(frames) > 60
    same = [dataclasses.replace(s, digits=(1, 2, 3), noise=1, snr=60) for s in scripts]
    assert len({f.tobytes() for f in speech_synthesis.synthesise(same)}) == len(same)


@needs_espeak
@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="NOT CHECKED, synthesis bit by bit: pinned for Linux on x86-64",
)
def test_the_frames_are_the_same_on_every_machine():
    scripts = [speech_synthesis.script("train", i) for i in range(8)]
    frames = b"".join(f.tobytes() for f in speech_synthesis.synthesise(scripts))
    assert (
        hashlib.sha256(frames).hexdigest()
        == "bf5fcbed4cc108a0954bc43ae4037dbba9c4c385bd81897c4183b646568d5d14"
    )


@needs_espeak
def test_all_voices_exist_and_an_unknown_one_is_an_error():
    for split, variants in (
        ("train", speech_synthesis.TRAIN_VARIANTS),
        ("test", speech_synthesis.TEST_VARIANTS),
    ):
        scripts = [
            dataclasses.replace(speech_synthesis.script(split, i), digits=(1,)) for i in range(len(variants))
        ]
        assert len(list(speech_synthesis.synthesise(scripts))) == len(variants)
    for voice, message in (
        ("en-us+nobody", "has no variant 'nobody'"),
        ("xx-nowhere+m1", "has no voice 'xx-nowhere+m1'"),
    ):
        bad = dataclasses.replace(speech_synthesis.script("train", 0), voice=voice)
        with pytest.raises(LeandnnError, match=re.escape(message)):
            list(speech_synthesis.synthesise([bad]))


SAY = """
from leandnn.data.speech_synthesis import script, speaking
with speaking() as voice:
    print(len(voice.say(script("train", 0))))
"""


@pytest.mark.slow
@needs_espeak
def test_voices_speak_from_a_folder_with_an_umlaut(tmp_path: Path):
    home = tmp_path / "mit Ümlaut"
    venv.create(home, symlinks=True)
    (packages,) = home.glob("lib/python3*/site-packages")
    own = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "installed.pth").write_text(f"import site; list(map(site.addsitedir, {own}))\n{packages}\n")
    command = [home / "bin" / "python", "-c", SAY]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    answers = {
        subprocess.run(
            command, env={**environment, "LANG": lang}, capture_output=True, text=True, check=True
        ).stdout
        for lang in ("C", "C.UTF-8")
    }
    assert len(answers) == 1
    assert int(answers.pop()) > 10_000


def test_scripts_are_drawn_from_split_number_and_seed():
    script = speech_synthesis.script
    assert script("train", 3) == script("train", 3)
    assert script("train", 3) != script("train", 3, seed=1)
    assert script("train", 3).digits != script("test", 3).digits
    drawn = [script("train", i) for i in range(2000)]
    counts = np.bincount([d for s in drawn for d in s.digits], minlength=10)
    assert counts.min() > 0.85 * counts.mean()
    lengths = np.bincount([len(s.digits) for s in drawn])
    assert (lengths[:3] == 0).all()
    assert len(lengths) == speech.LONGEST + 1
    assert lengths[3:].min() > 300
    assert not set(speech_synthesis.TRAIN_VARIANTS) & set(speech_synthesis.TEST_VARIANTS)


def test_noise_has_the_drawn_level():
    lines = dataclasses.replace(speech_synthesis.script("train", 0), before=100, after=100)
    speaking = (tone(500.0).numpy() * 8000).astype(np.int16)
    for snr in (0, 10, 20):
        for smooth in (1, 8):
            chosen = dataclasses.replace(lines, snr=snr, smooth=smooth)
            padded = np.pad(speaking.astype(np.float64) / 32768, (2205, 2205))
            noise = speech_synthesis.noisy(speaking, chosen, 22050) - padded
            found = 10 * np.log10((padded**2).sum() / len(speaking) / (noise**2).mean())
            assert abs(found - snr) < 0.01


def test_without_espeak_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "espeakng_loader.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'espeakng_loader'\")"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(LeandnnError, match=r"No module named.*run `pip install espeakng-loader`"):
        list(speech_synthesis.synthesise([speech_synthesis.script("train", 0)]))


def test_a_missing_or_impossible_file_is_refused(tiny: speech.Digits, tmp_path: Path):
    with pytest.raises(LeandnnError, match=r"missing: run `leandnn data fetch digits`"):
        speech.load(prepared=tmp_path)
    with pytest.raises(LeandnnError, match="no split 'dev'"):
        speech.load("dev", prepared=tmp_path)
    zeros = {name: np.zeros(shape, np.uint8) for name, shape in tiny.shapes.items()}
    write_prepared(tmp_path / "digits.safetensors", tiny, zeros)
    with pytest.raises(LeandnnError, match="damaged: train has frames or digits out of range"):
        speech.load(prepared=tmp_path)
    with pytest.raises(LeandnnError, match="13 utterances of train were asked for, expected 1 to 12"):
        speech.load(count=13, prepared=tmp_path)


# --- folders ---------------------------------------------------------------------------------------------


def chapter(
    root: Path, transcript: str, *, rate: int = 16000, samples: int = 8000, channels: int = 1
) -> Path:
    folder = root / "19" / "198"
    folder.mkdir(parents=True)
    (folder / "19-198.trans.txt").write_text(transcript)
    for i in range(2):
        with wave.open(str(folder / f"19-198-000{i}.wav"), "wb") as sound:
            sound.setnchannels(channels)
            sound.setsampwidth(2)
            sound.setframerate(rate)
            sound.writeframes(
                (tone(440.0, rate, samples / rate).numpy() * 9000).astype("<i2").tobytes() * channels
            )
    return folder


GOOD = "19-198-0000 DON'T  PANIC\n\n19-198-0001 YES\n"


def test_a_folder_like_librispeechs_is_read(tmp_path: Path):
    chapter(tmp_path, GOOD)
    data = load_folder(tmp_path)
    assert data.texts == ("don't panic", "yes")
    assert data.speakers == ("19", "19")
    assert data.features.shape == (int(data.frames.sum()), MELS)
    assert len(next(Batches(data, 2, seed=0).epoch(0)).texts) == 2
    assert load_folder(tmp_path, count=1).texts == ("don't panic",)
    with pytest.raises(LeandnnError, match="3 utterances .* were asked for, expected 1 to 2"):
        load_folder(tmp_path, count=3)


@pytest.mark.parametrize(
    ("transcript", "message"),
    [
        ("", "is empty, expected lines"),
        (" \n\n", "is empty, expected lines"),
        ("19-198-0000\n", "line 1, is '19-198-0000', expected an utterance and its text"),
        (GOOD + "19-198-0002 GONE\n", "19-198-0002 is neither there as .wav nor as .flac"),
        ("19-198-0000 ÜBER\n", "line 1, cannot be spelt: 'über' holds 'ü'"),
        ("19-198-0000 ROUTE 66\n", "cannot be spelt: 'route 66' holds '6'"),
        ("../../x/19 YES\n", "line 1, names '../../x/19', expected a file of the same folder"),
    ],
)
def test_a_broken_transcript_is_one_clear_sentence(tmp_path: Path, transcript: str, message: str):
    chapter(tmp_path, transcript)
    with pytest.raises(LeandnnError, match=re.escape(message)) as caught:
        load_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_broken_sound_is_one_clear_sentence(tmp_path: Path):
    cases = {
        "empty": (b"", "19-198-0000.wav is no readable WAV file (it ends early)"),
        "cut": (b"RIFF", "19-198-0000.wav is no readable WAV file (it ends early)"),
        "text": (b"hello, this is no sound", "is no readable WAV file (file does not start with RIFF id)"),
    }
    for name, (data, message) in cases.items():
        folder = chapter(tmp_path / name, GOOD)
        (folder / "19-198-0000.wav").write_bytes(data)
        with pytest.raises(LeandnnError, match=re.escape(message)):
            load_folder(tmp_path / name)
    for name, options, message in (
        ("stereo", {"channels": 2}, "has 2 channels of 16 bits, expected one of 16 bits"),
        ("slow", {"rate": 8000}, "cannot be used: speech has shape (8000,) at 8000 Hz"),
        ("short", {"samples": 100}, "cannot be used: speech has 100 samples"),
    ):
        chapter(tmp_path / name, GOOD, **options)
        with pytest.raises(LeandnnError, match=re.escape(message)):
            load_folder(tmp_path / name)
    with pytest.raises(LeandnnError, match=r"has no speaker/chapter/\*\.trans\.txt"):
        load_folder(tmp_path / "nowhere")


def test_flac_without_soundfile_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = chapter(tmp_path, GOOD)
    (folder / "19-198-0000.wav").rename(folder / "19-198-0000.flac")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(LeandnnError, match=r"needs soundfile.*pip install soundfile"):
        load_folder(tmp_path)
