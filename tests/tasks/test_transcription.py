"""Transcription: CTC, greedy reading, error rates, and a run of the loop that learns and resumes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bf16 import Policy
from leandnn.bf16.hook import Emulation
from leandnn.data.speech import ALPHABET, MELS, Utterances, encode
from leandnn.errors import LeandnnError
from leandnn.models.speech import DeepSpeech
from leandnn.tasks.transcription import Transcription, ctc, error_rates, greedy
from leandnn.train.loop import train
from leandnn.train.task import Settings


def logits_of(paths: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Logits (T, B, 29) that are sure of these symbols, "_" being the blank."""
    lengths = torch.tensor([len(path) for path in paths])
    logits = torch.zeros(int(lengths.max()), len(paths), len(ALPHABET))
    for i, path in enumerate(paths):
        for t, symbol in enumerate(path):
            logits[t, i, ALPHABET.index(symbol)] = 9.0
    return logits, lengths


def test_greedy_reading_drops_repeats_blanks_and_stray_spaces():
    logits, lengths = logits_of(["_thh_re_ee_", " one  _ two ", "____", "a_"])
    assert greedy(logits, lengths) == ["three", "one two", "", "a"]
    logits[3:, 3, 5] = 50.0  # past the end of the last
    assert greedy(logits, lengths)[3] == "a"


def test_ctc_sums_over_every_path():
    torch.manual_seed(0)
    logits = torch.randn(3, 1, len(ALPHABET))
    probabilities = logits[:, 0].softmax(1)
    a = encode("a")[0]
    b = encode("b")[0]
    paths = ((a, a, b), (a, b, b), (0, a, b), (a, 0, b), (a, b, 0))
    total = sum(math.prod(float(probabilities[t, s]) for t, s in enumerate(path)) for path in paths)
    found = ctc(logits, torch.tensor([3]), ["ab"])
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(-math.log(total), rel=1e-5)
    low = ctc(logits.bfloat16(), torch.tensor([3]), ["ab"])
    assert low.dtype == torch.float32


def test_an_utterance_too_short_for_its_text_is_named():
    logits = torch.zeros(3, 2, len(ALPHABET))
    with pytest.raises(LeandnnError, match=r"of 3 output frames is to be 'aab', expected at least 4 frames"):
        ctc(logits, torch.tensor([3, 3]), ["ab", "aab"])


def test_an_empty_batch_is_refused():
    with pytest.raises(LeandnnError, match="a batch has 0 utterances"):
        ctc(torch.zeros(3, 0, len(ALPHABET)), torch.tensor([], dtype=torch.int64), [])


def test_error_rates_are_counted_over_all_texts():
    words, characters = error_rates(["one two", "three"], ["one too", ""])
    assert words == pytest.approx(2 / 3)
    assert characters == pytest.approx(6 / 12)
    assert error_rates(["one"], ["one"]) == (0.0, 0.0)


class Averaged(nn.Module):
    """A net with a 1×1 look at each frame, fast enough for a test."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(MELS, len(ALPHABET))

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(features).transpose(0, 1), frames


def letters(count: int, seed: int) -> Utterances:
    """Each of six letters is two loud frames in bands of its own, wider than augmentation moves them, and two
    quiet ones; texts are words of four letters.
    """
    generator = torch.Generator().manual_seed(seed)
    texts, parts = [], []
    for word in torch.randint(6, (count, 4), generator=generator).tolist():
        part = torch.randint(0, 40, (16, MELS), generator=generator, dtype=torch.uint8)
        for i, letter in enumerate(word):
            part[4 * i : 4 * i + 2, 6 * letter + 4 : 6 * letter + 6] = 255
        texts.append("".join("abcdef"[letter] for letter in word))
        parts.append(part)
    frames = torch.tensor([len(part) for part in parts])
    return Utterances(torch.cat(parts), frames, tuple(texts), ("x",) * count)


SETTINGS = Settings(epochs=12, lr=0.2, optimizer="adam", schedule="one_cycle", channels_last=False)


def task(build: type[nn.Module] = Averaged) -> Transcription:
    return Transcription(build, letters(160, 0), letters(40, 1), batch_size=16, seed=0, device="cpu")


def test_a_net_learns_to_spell():
    result = train(task(), SETTINGS)
    assert set(result.metrics) == {"train_loss", "test_wer", "test_cer", "test_loss"}
    assert result.history[0]["test_loss"] > 5 * result.metrics["test_loss"]
    assert result.metrics["test_wer"] < 0.5
    assert result.metrics["test_cer"] < 0.1
    assert result.metrics["test_cer"] <= result.metrics["test_wer"]


def test_a_run_is_the_same_bit_by_bit_when_it_is_resumed(tmp_path: Path):
    whole = train(task(), SETTINGS)
    path = tmp_path / "run.ckpt"

    def kill(done: int, total: int, text: str) -> None:
        if done == 37:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(task(), SETTINGS, checkpoint_path=path, checkpoint_every_s=0.0, progress=kill)
    resumed = train(task(), SETTINGS, checkpoint_path=path)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.history == whole.history


@pytest.mark.parametrize("policy", [Policy.fp32(), Policy.paper()])
def test_the_real_net_trains_under_either_policy(policy: Policy):
    def build() -> nn.Module:
        return DeepSpeech(channels=4, size=24, layers=1, cell="tanh")

    job = Transcription(build, letters(64, 0), letters(16, 1), batch_size=16, seed=0, device="cpu")
    settings = Settings(epochs=4, lr=0.01, optimizer="adam", clip_norm=5.0, channels_last=False)
    result = train(job, settings, (Emulation(policy),))
    assert result.metrics["train_loss"] < 0.8 * result.history[0]["train_loss"]
    assert all(math.isfinite(value) for value in result.metrics.values())


def test_loss_is_per_character():
    job = task()
    model = job.build()
    batch = next(job.batches(0, 0))
    logits, lengths = model(batch.features, batch.frames)
    singles = [
        F.ctc_loss(
            logits[:, i : i + 1].log_softmax(2),
            torch.tensor([encode(text)]),
            lengths[i : i + 1],
            torch.tensor([len(text)]),
            reduction="sum",
        )
        for i, text in enumerate(batch.texts)
    ]
    expected = torch.stack(singles).sum() / sum(map(len, batch.texts))
    torch.testing.assert_close(job.loss(model, batch), expected)


class Deaf(nn.Module):
    """Equal logits whatever is said; a weight that becomes NaN makes the run fail."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(torch.nan))

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        batch, steps, _ = features.shape
        return self.weight * torch.zeros(steps, batch, len(ALPHABET)), frames


def test_a_failed_run_is_recorded_as_understanding_nothing():
    result = train(task(Deaf), dataclasses.replace(SETTINGS, on_failure="record"))
    assert result.failure is not None
    assert result.metrics == {"test_wer": 1.0, "test_cer": 1.0, "test_loss": pytest.approx(math.log(28))}
    deaf = Deaf()
    nn.init.zeros_(deaf.weight)
    with torch.no_grad():
        found = task(Deaf).evaluate(deaf.eval())
    assert found.keys() == result.metrics.keys()
    assert found["test_wer"] == found["test_cer"] == 1.0  # blanks alone: worst() is what silence scores
