"""Translation: the loss is per token, greedy decoding stops, BLEU is the library's, and real nets learn."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bf16 import Policy
from leandnn.bf16.hook import Emulation
from leandnn.data.text import Batch, Bitext, of_sentences
from leandnn.data.text_vocabulary import BEGIN, END, PAD, SPACE, SPECIAL, Vocabulary
from leandnn.errors import LeandnnError
from leandnn.models.language import GNMT, Memory, State
from leandnn.models.language_transformer import Transformer
from leandnn.tasks.translation import MORE, Translation, bleu, greedy
from leandnn.train.loop import train
from leandnn.train.task import Settings

WORDS = Vocabulary((*SPECIAL, *(SPACE + c * 3 for c in "abcdefghijkl")))
SIZE = len(WORDS)


def mirrored(count: int, seed: int) -> Bitext:
    """Sentences of 2 to 5 words; the translation has them in reverse, each word the next one of the list."""
    generator = torch.Generator().manual_seed(seed)
    sources = []
    for _ in range(count):
        length = int(torch.randint(2, 6, (1,), generator=generator))
        sources.append(torch.randint(4, SIZE, (length,), generator=generator, dtype=torch.int32))
    targets = [((source.flip(0) - 3) % (SIZE - 4) + 4).int() for source in sources]
    return of_sentences(sources, targets, WORDS)


SETTINGS = Settings(epochs=6, lr=0.01, optimizer="adam", clip_norm=1.0, channels_last=False)


def small_gnmt() -> nn.Module:
    return GNMT(SIZE, size=32, units=16)


def small_transformer() -> nn.Module:
    return Transformer(SIZE, size=32, heads=2, hidden=64, layers=1)


def task(
    build: Callable[[], nn.Module] = small_gnmt, count: int = 1600, smoothing: float = 0.0
) -> Translation:
    return Translation(
        build,
        mirrored(count, 0),
        mirrored(100, 1),
        batch_size=16,
        seed=0,
        device="cpu",
        translated=40,
        label_smoothing=smoothing,
    )


# --- learning --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("build", [small_gnmt, small_transformer])
def test_a_net_learns_to_translate_what_it_has_not_seen(build: Callable[[], nn.Module]):
    result = train(task(build), SETTINGS)
    assert set(result.metrics) == {"train_loss", "test_loss", "test_perplexity", "test_bleu"}
    assert result.metrics["test_loss"] < 0.5 * math.log(SIZE)
    assert result.metrics["test_perplexity"] == pytest.approx(math.exp(result.metrics["test_loss"]))
    assert result.metrics["test_bleu"] > 30 > result.history[0]["test_bleu"]


def test_a_run_is_the_same_bit_by_bit_when_it_is_resumed(tmp_path: Path):
    settings = dataclasses.replace(SETTINGS, epochs=2)

    def build() -> nn.Module:
        return Transformer(SIZE, size=16, heads=2, hidden=16, layers=1, dropout=0.2)

    whole = train(task(build, 160), settings)
    path = tmp_path / "run.ckpt"

    def kill(done: int, total: int, text: str) -> None:
        if done == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(task(build, 160), settings, checkpoint_path=path, checkpoint_every_s=0.0, progress=kill)
    resumed = train(task(build, 160), settings, checkpoint_path=path)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.history == whole.history


@pytest.mark.parametrize("build", [small_gnmt, small_transformer])
@pytest.mark.parametrize("policy", [Policy.fp32(), Policy.paper()])
def test_the_real_nets_train_under_either_policy(build: Callable[[], nn.Module], policy: Policy):
    settings = dataclasses.replace(SETTINGS, epochs=2)
    result = train(task(build, 320), settings, (Emulation(policy),))
    assert result.metrics["train_loss"] < 0.95 * result.history[0]["train_loss"]
    assert all(math.isfinite(value) for value in result.metrics.values())


# --- loss ------------------------------------------------------------------------------------------------


def test_loss_is_per_token_whatever_the_padding():
    job = task()
    model = job.build()
    batch = next(job.batches(0, 0))
    total, tokens = torch.zeros(()), 0
    for row in range(len(batch)):
        source, count = batch.source[row], int(batch.lengths[row])
        kept = int((batch.targets[row] != PAD).sum())
        logits = model(source[None, :count], batch.lengths[row : row + 1], batch.inputs[row : row + 1, :kept])
        total = total - logits[0].log_softmax(1)[torch.arange(kept), batch.targets[row, :kept]].sum()
        tokens += kept
    torch.testing.assert_close(job.loss(model, batch), total / tokens, rtol=1e-5, atol=1e-5)


def test_smoothing_is_for_training_alone():
    plain, smooth = task(), task(smoothing=0.3)
    torch.manual_seed(0)
    model = plain.build().eval()
    batch = next(plain.batches(0, 0))
    logits = model(batch.source, batch.lengths, batch.inputs)
    expected = F.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=PAD, label_smoothing=0.3
    )
    torch.testing.assert_close(smooth.loss(model, batch), expected)
    assert not torch.equal(smooth.loss(model, batch), plain.loss(model, batch))
    with torch.no_grad():
        assert smooth.evaluate(model) == plain.evaluate(model)


def test_a_batch_without_tokens_has_no_loss():
    job = task()
    none = torch.zeros(0, 3, dtype=torch.int64)
    empty = Batch(none, torch.zeros(0, dtype=torch.int64), none, none)
    padding = Batch(
        torch.full((2, 1), 5), torch.ones(2, dtype=torch.int64), torch.full((2, 1), BEGIN), none[:0]
    )
    padding = dataclasses.replace(padding, targets=torch.full((2, 1), PAD))
    for batch, pairs in ((empty, 0), (padding, 2)):
        with pytest.raises(LeandnnError, match=f"a batch of {pairs} pairs with no target token has no loss"):
            job.loss(job.build(), batch)


def test_texts_of_different_vocabularies_are_refused():
    other = dataclasses.replace(mirrored(10, 1), vocabulary=Vocabulary((*SPECIAL, "a")))
    with pytest.raises(LeandnnError, match="a vocabulary of 16 pieces, the test text another, of 5"):
        Translation(small_gnmt, mirrored(10, 0), other, batch_size=2, seed=0, device="cpu")
    with pytest.raises(LeandnnError, match="0 test pairs are to be translated"):
        Translation(
            small_gnmt, mirrored(9, 0), mirrored(9, 1), batch_size=2, seed=0, device="cpu", translated=0
        )


# --- decoding and BLEU -----------------------------------------------------------------------------------


class Oracle(nn.Module):
    """Writes the source's tokens in order and then END, one a call; sentences that begin with 5 never end.

    The state counts the calls.
    """

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        return Memory(source.unsqueeze(2).double(), torch.ones(len(source), 1, source.shape[1]) > 0)

    def decode(self, inputs: Tensor, memory: Memory, state: State | None) -> tuple[Tensor, State]:
        place = 0 if state is None else int(state[0][0])
        source = memory.values.squeeze(2).long()
        said = source[:, place] if place < source.shape[1] else torch.zeros(len(source), dtype=torch.int64)
        said = torch.where(said == PAD, END, said)
        said = torch.where((said == END) & (source[:, 0] == 5), 7, said)
        assert inputs.tolist() == (self.before if place else [[BEGIN]] * len(source))
        self.before = said[:, None].tolist()
        return F.one_hot(said, SIZE)[:, None].double(), [(torch.tensor(place + 1), torch.zeros(()))]


def test_greedy_translations_end_at_the_end_mark_or_at_the_limit():
    source = torch.tensor([[6, 7, 8, 9], [10, PAD, PAD, PAD], [5, 6, PAD, PAD]])
    lengths = torch.tensor([4, 1, 2])
    batch = Batch(source, lengths, source, source)
    found = greedy(Oracle(), batch)  # type: ignore[arg-type]
    assert found == [[6, 7, 8, 9], [10], [5, 6] + [7] * MORE]
    ending = Batch(source[:2], lengths[:2], source[:2], source[:2])
    oracle = Oracle()
    greedy(oracle, ending)  # type: ignore[arg-type]
    assert oracle.before == [[END], [END]], "decoding went on after all had ended"


def test_greedy_takes_the_nets_likeliest_token_each_time():
    torch.manual_seed(0)
    for net in (small_gnmt().eval(), small_transformer().eval()):
        batch = next(task().batches(0, 0))
        for row, found in enumerate(greedy(net, batch)):  # type: ignore[arg-type]
            count = int(batch.lengths[row])
            tokens = [BEGIN]
            while len(tokens) <= count + MORE:
                logits = net(
                    batch.source[row : row + 1, :count], batch.lengths[row : row + 1], torch.tensor([tokens])
                )
                best = int(logits[0, -1].argmax())
                if best == END:
                    break
                tokens.append(best)
            assert tokens[1:] == found


def test_bleu_is_of_the_whole_corpus_and_of_lower_case():
    assert bleu(["the cat sat on the mat"], ["The cat sat on the MAT"]) == pytest.approx(100.0)
    # By hand: 5 of 5 words, 3 of 3 pairs, 2 of 2 triples, 1 of 1 quadruple; 5 words for 6, so exp(1 - 6/5).
    short = bleu(["a b c d", "e"], ["a b c d", "e f"])
    assert short == pytest.approx(100 * math.exp(1 - 6 / 5))
    assert bleu(["x y z w"], ["a b c d"]) < 10


def test_bleu_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(LeandnnError, match="run `pip install sacrebleu`"):
        bleu(["a"], ["a"])


# --- failures --------------------------------------------------------------------------------------------


class Silent(nn.Module):
    """Equal logits for all tokens, times a weight that is NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(torch.nan))

    def forward(self, source: Tensor, lengths: Tensor, inputs: Tensor) -> Tensor:
        return self.weight * torch.zeros(*inputs.shape, SIZE)

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        return Memory(torch.zeros(*source.shape, 1), torch.ones(len(source), 1, source.shape[1]) > 0)

    def decode(self, inputs: Tensor, memory: Memory, state: State | None) -> tuple[Tensor, State]:
        return self.weight * torch.zeros(*inputs.shape, SIZE), []


def test_a_run_that_fails_is_recorded_as_knowing_no_word():
    result = train(task(Silent, 64), dataclasses.replace(SETTINGS, on_failure="record"))
    assert result.failure is not None
    assert result.metrics == {
        "test_loss": pytest.approx(math.log(SIZE)),
        "test_perplexity": SIZE,
        "test_bleu": 0.0,
    }
    silent = Silent()
    nn.init.zeros_(silent.weight)
    with torch.no_grad():
        found = task(Silent).evaluate(silent.eval())
    assert found == pytest.approx(result.metrics)
    with torch.no_grad():
        assert math.isnan(task(Silent).evaluate(Silent().eval())["test_loss"])
