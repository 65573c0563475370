"""The fast CIFAR-10 recipe on tiny made-up images: it learns, resumes to equal bits, and refuses in a sentence."""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from leandnn.blocksparse import prune
from leandnn.data import cifar
from leandnn.dense import recipe as fast_cifar
from leandnn.errors import LeandnnError
from leandnn.models.fast_cifar import he_start
from leandnn.studies.comparison import Scale, Trial
from leandnn.train.hooks import Freeze, Lookahead
from leandnn.train.loop import train
from leandnn.train.task import Result

SMALL = fast_cifar.recipe("proxy", widths=(8, 8, 8), epochs=4, batch=64, evaluate_every=1)


@pytest.fixture(autouse=True)
def any_cpu() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* has no BF16 products")
        yield


def images() -> cifar.Pair:
    train, test = cifar.synthetic("train", 280), cifar.synthetic("test", 100)
    # Two classes, red and blue gratings: a few steps tell them apart.
    return cifar.Images(train.images, train.labels // 5), cifar.Images(test.images, test.labels // 5)


@functools.cache
def unbroken(amp: str) -> Result:
    """The same run for every test that looks at it."""
    return run(trial(amp=amp))


def trial(chosen: fast_cifar.Recipe = SMALL, amp: str = "none", **options: object) -> Trial:
    made = fast_cifar.trial(chosen, Scale(1), images(), **options)
    return dataclasses.replace(made, settings=dataclasses.replace(made.settings, amp=amp))


def run(made: Trial, **options: object) -> Result:
    return train(made.task, made.settings, made.hooks, **options)


def test_it_learns_and_is_judged_with_and_without_mirroring():
    found = unbroken("none")
    losses = [row["train_loss"] for row in found.history]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.1
    assert set(found.metrics) == {"train_loss", "test_accuracy", "test_loss", "test_mirror_accuracy"}


def test_the_mirror_accuracy_is_of_the_mean_of_both_sides_logits():
    made = trial()
    model = made.task.build().eval()
    with torch.no_grad():
        found = made.task.evaluate(model)
        batches = list(made.task.test_batches.evaluation(100))
        both = torch.cat([model(x) + model(x.flip(3)) for x, _ in batches]).argmax(1)
    labels = torch.cat([y for _, y in batches])
    assert found["test_mirror_accuracy"] == int((both == labels).sum()) / 100


def test_judged_by_validation_images_no_metric_is_called_test():
    made = trial(judge="validation")
    found = run(dataclasses.replace(made, settings=dataclasses.replace(made.settings, epochs=1)))
    assert set(found.metrics) == {
        "train_loss", "validation_accuracy", "validation_loss", "validation_mirror_accuracy",
    }  # fmt: skip
    assert set(made.task.worst()) == set(found.metrics) - {"train_loss"}


def test_the_recipe_is_that_of_the_source():
    source = fast_cifar.recipe(
        "main", batch=1024, lr=11.5, lookahead=5, weight_decay=0.0153, momentum=0.85, bias_epochs=3, epochs=11
    )
    made = fast_cifar.trial(dataclasses.replace(source, batch=100), Scale(0), images())
    settings = made.settings
    assert settings.lr == pytest.approx(100 * 11.5 / 7850.67, rel=1e-4)
    # Decoupled: a unit of a mean loss's learning rate shrinks all weights by the same as in the source.
    assert settings.lr * settings.weight_decay == pytest.approx(0.0153 * 100 / 7850.67, rel=1e-4)
    assert settings.decay_vectors and settings.nesterov
    assert (settings.lr_start, settings.warmup, settings.lr_end) == (0.2, 0.23, 0.07)
    freeze, lookahead = made.hooks
    assert isinstance(freeze, Freeze) and freeze.after == 3 / 11
    assert isinstance(lookahead, Lookahead) and (lookahead.every, lookahead.decay) == (5, 0.95)


def test_the_whitening_bias_trains_for_its_epochs_and_then_stays():
    biases = []

    class Watch(Freeze):
        def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            self.model = model

        def before_update(self, progress: float) -> None:
            pass

        def epoch_end(self, epoch: int) -> dict[str, float]:
            biases.append(self.model.whiten.bias.detach().clone())
            return {}

    filters = trial().task.build().whiten.weight
    found = run(trial(hooks=(Watch("whiten.bias", 0.0),)))
    assert biases[0].any() and not torch.equal(biases[1], biases[2]) and torch.equal(biases[2], biases[3])
    assert torch.equal(found.model.whiten.weight, filters)


def test_norms_biases_learn_64_times_as_fast_and_masks_hold():
    pruned = prune.GradualPruning(prune.unstructured(0.75), layers=("groups.1.conv1",), start=0.1, end=0.5)
    made = trial(build=lambda net: he_start(net, {"groups.1.conv1": 0.25}), hooks=(pruned,))
    assert made.settings.lr_factors == {"groups.*norm?.bias": 64.0}
    found = run(made)
    weight = found.model.groups[1].conv1.weight
    assert int((weight != 0).sum()) == weight.numel() // 4, "Lookahead brings nothing back"


class Killed(Exception):
    """Stands for a kill: the loop is left at once."""


@pytest.mark.slow
@pytest.mark.parametrize("amp", ["none", "bf16"])
@pytest.mark.parametrize("kill_at", [1, 4, 11, 12, 13, 15])
def test_a_run_left_at_any_update_resumes_to_the_same_bits(tmp_path: Path, kill_at: int, amp: str):
    path = tmp_path / "run.ckpt"

    def progress(done: int, total: int, text: str) -> None:
        if done == kill_at:
            raise Killed

    with pytest.raises(Killed):
        run(trial(amp=amp), checkpoint_path=path, checkpoint_every_s=-1.0, progress=progress)
    resumed = run(trial(amp=amp), checkpoint_path=path)
    whole = unbroken(amp)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.history == whole.history and resumed.trace == whole.trace


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import test_recipe as this
def progress(done, total, text):
    print(done, flush=True)
found = this.run(this.trial(), checkpoint_path=Path({path!r}), checkpoint_every_s=-1.0, progress=progress)
print(found.weights_sha256)
"""


@pytest.mark.slow
def test_a_process_killed_with_signal_9_resumes_to_the_same_bits(tmp_path: Path):
    path = tmp_path / "run.ckpt"
    script = SCRIPT.format(folder=str(Path(__file__).parent), path=str(path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert started.stdout is not None
    for line in started.stdout:
        if line.strip() == "9":
            break
    time.sleep(0.02)  # somewhere in a step, or in a checkpoint
    started.send_signal(signal.SIGKILL)
    started.communicate()
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    first, *_, digest = answer.stdout.split()
    assert int(first) > 5, "it went on"
    assert digest == unbroken("none").weights_sha256


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: fast_cifar.recipe("large"), "^there is no recipe 'large', expected one of main, proxy$"),
        (
            lambda: fast_cifar.recipe("main", learning_rate=1),
            "^the recipe has no setting 'learning_rate', expected one of widths, epochs, batch, lr,",
        ),
        (
            lambda: trial(dataclasses.replace(SMALL, batch=500)),
            "^the batch size is 500, expected 1 to 280, the number of images$",
        ),
        (lambda: fast_cifar.images("train"), "^there is no judge 'train', expected test or validation$"),
    ],
)
def test_what_the_recipe_does_not_know_is_told_in_a_sentence(make, complaint: str):
    with pytest.raises(LeandnnError, match=complaint):
        make()


def test_validation_images_come_without_reading_the_test_set(
    cifar_file: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level("INFO", "leandnn.data.cifar"):
        train_images, held = fast_cifar.images("validation")
        assert (len(train_images), len(held)) == (45_000, 5_000)
        assert torch.bincount(held.labels).tolist() == [500] * 10
        assert not caplog.messages
        train_images, held = fast_cifar.images("test")
    assert (len(train_images), len(held)) == (50_000, 10_000)
    assert caplog.messages == ["the test images of cifar10 are read"]


def test_images_after_the_last_whole_batch_sit_an_epoch_out():
    made = trial()
    assert made.task.steps_per_epoch() == 4, "280 images in batches of 64: 24 are left over"
    firsts = [batch for batch, _ in made.task.batches(0, 0)]
    assert [len(batch) for batch in firsts] == [64] * 4
