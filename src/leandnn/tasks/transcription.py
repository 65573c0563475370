"""Speech recognition as a `Task`: connectionist temporal classification, judged by word and character errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.data import speech
from leandnn.errors import LeandnnError

BLANK = 0


class Transcription:
    """CTC (Graves et al. 2006) over characters; transcripts are read off greedily, without a language model.

    - build_model: makes the net, called as net(features, frames) → (logits (T, B, symbols), lengths (B,)),
      such as models.speech.DeepSpeech (torch is seeded by the loop).
    - train, test: utterances in memory; see speech.load and speech_folder.load_folder.
    - batch_size, seed, device: of the training batches, which are augmented (see speech.Batches).

    Metrics: test_wer (word errors per word of the truth), test_cer (character errors per character), both
    over the whole test set and at least 0, and test_loss (nats per character).
    """

    def __init__(
        self,
        build_model: Callable[[], nn.Module],
        train: speech.Utterances,
        test: speech.Utterances,
        *,
        batch_size: int,
        seed: int,
        device: str,
    ) -> None:
        self.build_model = build_model
        self.train_batches = speech.Batches(train, batch_size, augment=True, seed=seed, device=device)
        self.test_batches = speech.Batches(test, 1, seed=seed, device=device)

    def build(self) -> nn.Module:
        """A new net."""
        return self.build_model()

    def steps_per_epoch(self) -> int:
        """Whole batches in the training utterances."""
        return len(self.train_batches)

    def batches(self, epoch: int, start: int) -> Iterator[speech.Batch]:
        """The batches of an epoch from batch `start` on."""
        return self.train_batches.epoch(epoch, start)

    def loss(self, model: nn.Module, batch: speech.Batch) -> Tensor:
        """CTC loss in nats per character of the batch, computed in FP32.

        LeandnnError for an utterance too short for its text.
        """
        logits, lengths = model(batch.features, batch.frames)
        return ctc(logits, lengths, batch.texts) / sum(map(len, batch.texts))

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Error rates and mean loss over all test utterances."""
        loss = torch.zeros((), dtype=torch.float64)
        truth: list[str] = []
        found: list[str] = []
        for batch in self.test_batches.evaluation(100):
            logits, lengths = model(batch.features, batch.frames)
            loss += ctc(logits, lengths, batch.texts).double().cpu()
            truth += batch.texts
            found += greedy(logits, lengths)
        words, characters = error_rates(truth, found)
        return {"test_wer": words, "test_cer": characters, "test_loss": float(loss) / sum(map(len, truth))}

    def worst(self) -> dict[str, float]:
        """Nothing was understood: every word and character missing, and the loss of characters drawn by chance."""
        return {"test_wer": 1.0, "test_cer": 1.0, "test_loss": math.log(len(speech.ALPHABET) - 1)}


def ctc(logits: Tensor, lengths: Tensor, texts: Sequence[str]) -> Tensor:
    """The sum of the texts' negative log-likelihoods in nats, a float32 scalar on the logits' device.

    - logits: (T, B, symbols) of any float dtype; symbols in the order of speech.ALPHABET.
    - lengths: int64 (B,) on the CPU, frames of each utterance.

    Computed on the CPU wherever the logits lie: torch has no deterministic CTC of its own for GPUs.
    LeandnnError for an utterance too short for its text, whose likelihood is 0, and for an empty batch.
    """
    if not texts:
        raise LeandnnError("a batch has 0 utterances, expected at least 1")
    symbols = [speech.encode(text) for text in texts]
    for text, places, length in zip(texts, symbols, lengths.tolist(), strict=True):
        needed = len(places) + sum(a == b for a, b in pairwise(places))
        if length < needed:
            raise LeandnnError(
                f"an utterance of {length} output frames is to be {text!r}, expected at least {needed} frames"
            )
    total: Tensor = F.ctc_loss(
        logits.float().cpu().log_softmax(2),
        torch.tensor([place for places in symbols for place in places]),
        lengths,
        torch.tensor([len(places) for places in symbols]),
        blank=BLANK,
        reduction="sum",
    )
    return total.to(logits.device)


def greedy(logits: Tensor, lengths: Tensor) -> list[str]:
    """The best symbol of each frame, repeats and blanks removed, and no space doubled or at an end.

    - logits, lengths: as in `ctc`.
    """
    best = logits.argmax(2).t().cpu()
    texts = []
    for row, length in zip(best, lengths.tolist(), strict=True):
        symbols = torch.unique_consecutive(row[:length]).tolist()
        text = "".join(speech.ALPHABET[symbol] for symbol in symbols if symbol != BLANK)
        texts.append(" ".join(text.split()))
    return texts


def error_rates(truth: Sequence[str], found: Sequence[str]) -> tuple[float, float]:
    """Word and character error rate over all texts, as jiwer counts them.

    LeandnnError where jiwer is not installed.
    """
    try:
        import jiwer
    except ImportError as error:
        raise LeandnnError("word error rates need jiwer: run `pip install jiwer`") from error
    return float(jiwer.wer(list(truth), list(found))), float(jiwer.cer(list(truth), list(found)))
