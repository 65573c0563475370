"""The ImageNet recipe is the published one, and what is named in a run's key decides its bits."""

from __future__ import annotations

import pytest
import torch

from leandnn.autosparse import imagenet
from leandnn.studies.comparison import Scale
from leandnn.train import schedules


def recipe(*said: str):
    found = imagenet.parser().parse_args(said)
    return imagenet.recipe(found.net, found.arm, imagenet.budget_of(found, 100, 10), Scale(found.seed))


@pytest.mark.parametrize("net", ["resnet50", "mobilenet_v1"])
def test_the_defaults_are_the_published_recipe(net: str):
    found = imagenet.parser().parse_args(["--net", net])
    assert (found.epochs, found.batch, found.size, found.accumulate) == (100, 256, 224, 1)
    settings, (learned, _) = recipe("--net", net)
    assert (settings.optimizer, settings.momentum, settings.nesterov) == ("sgd", 0.875, False)
    assert (settings.lr, settings.schedule, settings.amp) == (0.256, "cosine", "bf16")
    assert settings.channels_last
    assert settings.weight_decay == 2**-15
    peak = max(range(1001), key=lambda i: schedules.factor("cosine", i / 1000, settings.warmup))
    assert peak == 50, "5 of 100 epochs of warm-up"
    options = learned.options
    assert (options.alpha, options.init, options.schedule) == (0.5, -5.0, "sigmoid_cosine")
    assert (options.zero_from, options.decay, options.target, options.exclude) == (0.9, 0.0, None, ())


@pytest.mark.parametrize(
    ("net", "decay", "init"),
    [("resnet50", 2.251757813e-05, -3200.0), ("mobilenet_v1", 3.751757813e-05, -12800.0)],
)
def test_str_decays_its_thresholds_as_its_files_say(net: str, decay: float, init: float):
    settings, (learned, _) = recipe("--net", net, "--arm", "str")
    assert settings.weight_decay == learned.options.decay == decay
    assert (learned.options.alpha, learned.options.schedule, learned.options.start) == (0.0, "zero", init)


def test_dense_has_no_method_and_a_target_is_autosparses_alone():
    _, hooks = recipe("--arm", "dense")
    assert [type(hook).__name__ for hook in hooks] == ["Accounting"]
    _, (learned, _) = recipe("--target", "0.8")
    assert learned.options.target == 0.8
    with pytest.raises(
        ValueError, match=r"target of 0\.8 was asked for with arm str, expected arm autosparse"
    ):
        recipe("--arm", "str", "--target", "0.8")


@pytest.mark.parametrize(("net", "layers"), [("resnet50", 54), ("mobilenet_v1", 28)])
def test_thresholds_fit_the_nets_of_the_paper(net: str, layers: int):
    model = imagenet.NETS[net](1000)
    _, (learned, _) = recipe("--net", net)
    learned.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert len(learned.sparse.gates) == layers
