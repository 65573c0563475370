"""The study's arms: all train, keep their ends dense, meet the sparsity, and count like the shared baselines."""

from __future__ import annotations

import pytest

from leandnn.autosparse import study
from leandnn.autosparse.accounting import Accounting
from leandnn.blocksparse import baselines
from leandnn.blocksparse.footprint import Footprint
from leandnn.data import cifar
from leandnn.models import macs
from leandnn.models.vgg_small import SmallVGG
from leandnn.params import Budget
from leandnn.studies.comparison import Scale
from leandnn.train.loop import train

TRAIN, TEST = cifar.synthetic("train", 1280), cifar.synthetic("test", 100)


def run(arm: str, **changes: object) -> dict[str, float]:
    made = study.arm(arm, **changes)(Budget(2, 1280, 100), Scale(0), (TRAIN, TEST))  # type: ignore[arg-type]
    return train(made.task, made.settings, made.hooks).metrics


@pytest.mark.slow
@pytest.mark.parametrize("arm", [*study.METHODS, "dst-annealed", "backward-half"])
def test_an_arm_meets_the_sparsity_asked_for_with_dense_ends(arm: str):
    metrics = run(arm)
    assert metrics["sparsity"] == pytest.approx(0.8, abs=0.01)
    densities = {name for name in metrics if name.startswith("density:")}
    assert densities == {f"density:features.{i}" for i in (4, 8, 11, 15, 18)}
    dense = macs.training_macs(macs.count(SmallVGG(), (3, 32, 32)), 2 * 1280)
    assert 0.2 * dense < metrics["train_macs"] < dense
    assert metrics["inference_macs"] < 0.5 * dense / (3 * 2 * 1280)


@pytest.mark.parametrize("net", ["MOBILENET", "RESNET"])
def test_the_other_nets_train_with_dense_ends(net: str):
    small = cifar.synthetic("train", 256), cifar.synthetic("test", 100)
    made = study.arm("autosparse", getattr(study, net))(Budget(1, 256, 100), Scale(0), small)
    metrics = train(made.task, made.settings, made.hooks).metrics
    assert not {f"density:{end}" for end in getattr(study, net).ends} & set(metrics)
    assert 0 < metrics["sparsity"] < 0.8, "2 updates are fewer than the target's 10"


def test_a_dense_net_is_counted_as_the_shared_baselines_count_it():
    ours, theirs = Accounting(None, batch_size=128), Footprint(batch_size=128)
    made = baselines.trial(Budget(1, 1280, 100), Scale(0), (TRAIN, TEST), hooks=(ours, theirs))
    train(made.task, made.settings, made.hooks)
    columns = ours.epoch_end(0), theirs.epoch_end(0)
    for name in ("sparsity", "inference_macs", "train_macs"):
        assert columns[0][name] == columns[1][name]
    assert columns[0]["train_macs_formula"] == columns[0]["train_macs"]


def test_every_arm_on_cifar_can_be_made():
    for comparison in study.COMPARISONS.values():
        assert comparison.paper == "autosparse"
        for arm, make in comparison.arms.items() if comparison.name != "imagenet" else ():
            trial = make(Budget(1, 1280, 100), Scale(3), (TRAIN, TEST))
            assert (trial.settings.epochs, trial.settings.seed) == (1, 3)
            assert len(trial.hooks) == (1 if arm == "dense" else 2)


def hook(arm: str):
    """What makes an arm's net sparse."""
    return study.METHODS[arm](study.VGG, 0.8, 0)


def test_arms_that_claims_pair_differ_in_one_thing():
    str_, auto = (hook(arm).options for arm in ("str", "autosparse"))
    differing = {k for k in vars(auto) if getattr(auto, k) != getattr(str_, k)}
    assert differing == {"alpha", "schedule", "decay"}, "STR: no gradient under the threshold, decay on s"
    plain, annealed = hook("topk"), hook("topk-annealed")
    assert (plain.schedule, plain.zero_from) == ("constant", None)
    assert (annealed.schedule, annealed.zero_from) == ("sigmoid_cosine", 0.9)
    assert (plain.density, plain.alpha, plain.every) == (annealed.density, annealed.alpha, annealed.every)


def test_an_unknown_arm_is_refused():
    with pytest.raises(
        ValueError, match="arm 'autosparce' is unknown, expected one of dense, gmp, autosparse"
    ):
        study.arm("autosparce")
