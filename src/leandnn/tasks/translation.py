"""Translation as a `Task`: cross-entropy per token, judged by held-out loss and BLEU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.data.text import Batch, Batches, Bitext
from leandnn.data.text_vocabulary import BEGIN, END, PAD
from leandnn.errors import LeandnnError
from leandnn.models.language import State, Translator

MORE = 10  # tokens that a translation may be longer than its source before it is cut off
_EVALUATED = 100  # pairs at a time


class Translation:
    """Cross-entropy of each target token, given the source and all target tokens before it.

    - build_model: makes the net, a models.language.Translator (torch is seeded by the loop).
    - train, test: pairs in memory of one vocabulary; see text.load and text_files.load_files.
    - batch_size, seed, device: of the training batches.
    - translated: the first so many test pairs are translated for BLEU; more than there are means all.
    - label_smoothing: share of the target's probability that training spreads over all tokens.

    Metrics: test_loss (nats per token, end marks included, no smoothing, the true text before each token),
    test_perplexity (its exponential) and test_bleu (0 to 100, greedy translations, lower case).
    """

    def __init__(
        self,
        build_model: Callable[[], nn.Module],
        train: Bitext,
        test: Bitext,
        *,
        batch_size: int,
        seed: int,
        device: str,
        translated: int = 200,
        label_smoothing: float = 0.0,
    ) -> None:
        if train.vocabulary.pieces != test.vocabulary.pieces:
            raise LeandnnError(
                f"the training text has a vocabulary of {len(train.vocabulary)} pieces, the test text another, "
                f"of {len(test.vocabulary)}"
            )
        if translated < 1:
            raise LeandnnError(f"{translated} test pairs are to be translated, expected at least 1")
        self.build_model, self.vocabulary = build_model, train.vocabulary
        self.label_smoothing = label_smoothing
        self.train_batches = Batches(train, batch_size, seed=seed, device=device)
        self.test_batches = Batches(test, 1, seed=seed, device=device)
        first = test.chosen(torch.arange(min(translated, len(test))))
        self.bleu_batches = Batches(first, 1, seed=seed, device=device)

    def build(self) -> nn.Module:
        """A new net."""
        return self.build_model()

    def steps_per_epoch(self) -> int:
        """Whole batches in the training pairs."""
        return len(self.train_batches)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from batch `start` on."""
        return self.train_batches.epoch(epoch, start)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats per token of the batch, computed in FP32. LeandnnError for no tokens."""
        tokens = int((batch.targets != PAD).sum()) if len(batch) else 0
        if tokens == 0:
            raise LeandnnError(f"a batch of {len(batch)} pairs with no target token has no loss")
        return self._summed(model, batch, self.label_smoothing) / tokens

    def _summed(self, model: nn.Module, batch: Batch, smoothing: float) -> Tensor:
        logits = model(batch.source, batch.lengths, batch.inputs).float()
        return F.cross_entropy(
            logits.flatten(0, 1),
            batch.targets.flatten(),
            ignore_index=PAD,
            reduction="sum",
            label_smoothing=smoothing,
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Loss over all test pairs and BLEU over the first ones."""
        loss, tokens = torch.zeros((), dtype=torch.float64), 0
        for batch in self.test_batches.evaluation(_EVALUATED):
            loss += self._summed(model, batch, 0.0).double().cpu()
            tokens += int((batch.targets != PAD).sum())
        mean = float(loss) / tokens
        if not math.isfinite(mean):  # the loop names the metric that is not finite
            return {"test_loss": mean}
        found, truth = [], []
        for batch in self.bleu_batches.evaluation(_EVALUATED):
            found += greedy(cast(Translator, model), batch)
            truth += batch.targets.tolist()
        texts = [[self.vocabulary.decode(tokens) for tokens in side] for side in (found, truth)]
        # A perplexity beyond a float's range says no more than the loss does.
        perplexity = math.exp(min(mean, 700.0))
        return {"test_loss": mean, "test_perplexity": perplexity, "test_bleu": bleu(texts[0], texts[1])}

    def worst(self) -> dict[str, float]:
        """Metrics of a net that learned nothing: all tokens equally likely, and no translation."""
        size = len(self.vocabulary)
        return {"test_loss": math.log(size), "test_perplexity": float(size), "test_bleu": 0.0}


@torch.no_grad()
def greedy(model: Translator, batch: Batch) -> list[list[int]]:
    """Translations of a batch's sources, always taking the likeliest next token; up to END, which is left out.

    A translation of MORE tokens beyond its source's length is cut off there.
    """
    memory = model.encode(batch.source, batch.lengths)
    last = torch.full((len(batch), 1), BEGIN, device=batch.source.device)
    ended = torch.zeros(len(batch), dtype=torch.bool, device=batch.source.device)
    state: State | None = None
    steps = []
    for _ in range(batch.source.shape[1] + MORE):
        logits, state = model.decode(last, memory, state)
        last = logits.argmax(2)
        steps.append(last)
        ended |= last.squeeze(1) == END
        if bool(ended.all()):
            break
    rows = torch.cat(steps, 1).tolist()
    limits = (batch.lengths + MORE).tolist()
    return [
        row[: min(limit, row.index(END) if END in row else limit)]
        for row, limit in zip(rows, limits, strict=True)
    ]


def bleu(found: Sequence[str], truth: Sequence[str]) -> float:
    """Corpus BLEU (Papineni et al. 2002) of translations against one reference each, 0 to 100.

    sacrebleu's, lower case, its tokenisation "13a": signature case:lc|eff:no|tok:13a|smooth:exp.
    LeandnnError where sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise LeandnnError("BLEU needs sacrebleu: run `pip install sacrebleu`") from error
    return float(BLEU(lowercase=True).corpus_score(list(found), [list(truth)]).score)
