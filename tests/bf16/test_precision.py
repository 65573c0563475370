"""One setting for FP32, native BF16 and emulated BF16."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from pathlib import Path

import pytest

from leandnn.bf16.precision import PRECISIONS, in_precision
from leandnn.data import cifar
from leandnn.dense import recipe as fast_cifar
from leandnn.errors import LeandnnError
from leandnn.studies.comparison import Scale, Trial
from leandnn.train.loop import train
from leandnn.train.task import Result

SMALL = fast_cifar.recipe("proxy", widths=(8, 8, 8), epochs=3, batch=64, evaluate_every=1)


def trial(precision: str) -> Trial:
    images = cifar.synthetic("train", 256), cifar.synthetic("test", 100)
    return in_precision(fast_cifar.trial(SMALL, Scale(1), images), precision)


@functools.cache
def unbroken(precision: str) -> Result:
    """The same run for every test that looks at it."""
    return run(precision)


def run(precision: str, **options: object) -> Result:
    made = trial(precision)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* has no BF16 products|the compiled kernels")
        return train(made.task, made.settings, made.hooks, **options)


def test_each_precision_learns_and_no_two_give_the_same_bits():
    found = {precision: unbroken(precision) for precision in PRECISIONS}
    assert len({result.weights_sha256 for result in found.values()}) == 3
    losses = [result.history[-1]["train_loss"] for result in found.values()]
    assert max(losses) - min(losses) < 0.1
    assert all(
        result.history[-1]["train_loss"] < result.history[0]["train_loss"] for result in found.values()
    )


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_left_resumes_to_the_same_bits_in_every_precision(tmp_path: Path, precision: str):
    path = tmp_path / "run.ckpt"

    def progress(done: int, total: int, text: str) -> None:
        if done == 7:
            raise Killed

    with pytest.raises(Killed):
        run(precision, checkpoint_path=path, checkpoint_every_s=-1.0, progress=progress)
    assert run(precision, checkpoint_path=path).weights_sha256 == unbroken(precision).weights_sha256


def test_what_cannot_be_is_told_in_a_sentence():
    with pytest.raises(
        LeandnnError, match="^there is no precision 'fp8', expected one of fp32, native-bf16, emulated-bf16$"
    ):
        trial("fp8")
    already = dataclasses.replace(trial("fp32"), settings=trial("native-bf16").settings)
    with pytest.raises(LeandnnError, match="^the trial has autocast in bf16 already, expected FP32$"):
        in_precision(already, "emulated-bf16")
