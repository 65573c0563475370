"""The Huffman bench: a net of the stated structure, right results, plans scored by other rounds, rows and words."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from leandnn.bench.huffman import decode, inference, memory, peers, plans
from leandnn.bench.huffman import layers as layer_rows
from leandnn.errors import LeandnnError
from leandnn.huffman import full_alexnet
from leandnn.huffman.compress import encode
from leandnn.huffman.costs import Costs
from leandnn.huffman.prune import layers
from leandnn.machine import memory as process

SHRINK = 32


@pytest.fixture(scope="module")
def net() -> full_alexnet.AlexNet:
    return full_alexnet.shared(shrink=SHRINK)


@pytest.fixture(scope="module")
def models(net: full_alexnet.AlexNet):
    return {"lanes": encode(net, layout="lanes"), "smallest": encode(net, layout="streams")}


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def costs(seconds: np.ndarray) -> Costs:
    """Of two units at batches 1 and 2, by rounds; a unit's peak is 1 MB an image."""
    return Costs(
        units=("a", "b"),
        batches=(1, 2),
        seconds=seconds,
        copy_seconds=np.zeros((len(seconds), 2)),
        peak_nbytes=np.array([[1, 2], [1, 2]]) * 1_000_000,
        item_nbytes=np.array([100, 100]),
        held_nbytes=1000,
    )


def test_the_net_has_torchvisions_shapes():
    with torch.device("meta"):
        net = full_alexnet.AlexNet()
    assert sum(p.numel() for p in net.parameters()) == 61_100_840
    assert set(layers(net)) == set(full_alexnet.DENSITIES) == set(full_alexnet.BITS)
    assert {name: tuple(p.shape) for name, p in net.named_parameters() if name.endswith("weight")} == {
        "features.0.weight": (64, 3, 11, 11), "features.3.weight": (192, 64, 5, 5),
        "features.6.weight": (384, 192, 3, 3), "features.8.weight": (256, 384, 3, 3),
        "features.10.weight": (256, 256, 3, 3), "classifier.1.weight": (4096, 9216),
        "classifier.4.weight": (4096, 4096), "classifier.6.weight": (1000, 4096),
    }  # fmt: skip
    assert net(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


def test_structured_weights_are_the_same_every_time():
    a, b = full_alexnet.structured(shrink=8), full_alexnet.structured(shrink=8)
    for one, other in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(one, other)
    other = full_alexnet.structured(1, shrink=8)
    weight = a.classifier[1].weight
    assert not torch.equal(weight, other.classifier[1].weight)
    # He's scale, times the importances' own spread; rows differ by more than chance, which is 3 % here.
    assert float(weight.std()) == pytest.approx((2 / weight.shape[1]) ** 0.5, rel=0.1)
    sizes = weight.abs().mean(1)
    assert 0.08 < float(sizes.std() / sizes.mean()) < 0.15


def test_pruned_and_shared_as_the_settings_say(net: full_alexnet.AlexNet):
    for name, layer in layers(net).items():
        weight = layer.weight
        kept = int((weight != 0).sum())
        assert kept == pytest.approx(full_alexnet.DENSITIES[name] * weight.numel(), abs=1)
        assert weight.unique().numel() <= 2 ** full_alexnet.BITS[name]


def test_sizes_add_up(models):
    found = decode.sizes(models)
    for layout, model in models.items():
        parts = [r["work"] for r in found if r["case"]["layout"] == layout and r["case"]["layer"] != "all"]
        (whole,) = (r for r in found if r["case"]["layout"] == layout and r["case"]["layer"] == "all")
        assert sum(parts) == whole["work"] and len(parts) == 8
        assert whole["case"]["dense_bytes"] == 4 * sum(
            layer.dense_weight().numel() for layer in model.layers().values()
        )


def test_every_decoder_gives_the_symbols_back(net: full_alexnet.AlexNet):
    found = decode.rates(net, 1)
    by_case = {r["case"]["case"]: set() for r in found}
    for r in found:
        by_case[r["case"]["case"]].add(r["impl"])
    assert set(by_case) == set(decode.CASES)
    for impls in by_case.values():
        assert {"leandnn", "leandnn.baseline.lanes", "leandnn.baseline.streams", "memcpy"} <= impls


def test_peers_that_are_installed_decode_what_was_coded():
    pytest.importorskip("zstandard")
    random = np.random.default_rng(0)
    streams = tuple(random.geometric(0.3, 200_000).clip(0, 31).astype(np.uint8) for _ in range(2))
    for call, count in peers.decoders(streams, slow=False).values():
        assert peers.same(call(), streams) and count == 400_000


def test_other_symbols_are_noticed():
    streams = np.zeros(10, np.uint8), np.ones(10, np.uint8)
    assert peers.same([bytes(10), bytes([1] * 10)], streams)
    assert not peers.same([bytes(10), bytes(10)], streams)
    assert not peers.same([bytes(9), bytes([1] * 9)], streams)


def test_every_way_to_run_a_layer_computes_it(net: full_alexnet.AlexNet, models):
    found = layer_rows.linear(net, models["lanes"], ("fc6", "fc8"), (1, 3), 1)
    impls = [r["impl"] for r in found if r["case"] == {"what": "layer", "layer": "fc6", "batch": 3}]
    assert impls[:8] == [
        "torch.dense", "torch.dense (feature-major)", "torch.bf16", "torch.csr, already decoded",
        "decode → torch.csr", "decode → torch.dense", "leandnn", "leandnn (feature-major)",
    ]  # fmt: skip
    assert len(found) == 4 * len(impls)


def test_a_wrong_layer_is_not_measured(net: full_alexnet.AlexNet, models, monkeypatch: pytest.MonkeyPatch):
    right = peers.csr
    monkeypatch.setattr(peers, "csr", lambda layer, x: right(layer, x) * 1.001)
    with pytest.raises(LeandnnError, match=r"decode → torch.csr in fc7, batch 2 is wrong: 0.001 away"):
        layer_rows.linear(net, models["lanes"], ("fc7",), (2,), 1)


def test_the_dense_net_has_the_coded_weights(net: full_alexnet.AlexNet, models):
    x = torch.randn(2, *full_alexnet.IMAGE)
    torch.testing.assert_close(layer_rows.decoded(models["lanes"])(x), net(x))


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(models):
    try:
        process.reset_peak()
    except LeandnnError:
        pytest.skip("this system does not count peaks of memory")
    layer = models["lanes"].layers()["classifier.6"]
    measured = memory.measure(layer, 1)
    # At least the weights; at most what a fresh process touches beside them: some hundred pages.
    assert measured is not None
    assert layer.weight_nbytes <= measured <= layer.weight_nbytes + 1_000_000


def test_plans_are_scored_by_rounds_that_did_not_choose_them():
    # In even rounds batches of 2 look better; the odd ones say what they are worth.
    seconds = np.array([[[1.0, 1.0], [1.0, 1.0]], [[1.0, 4.0], [1.0, 4.0]]] * 2)
    found = plans.scored({"fused": costs(seconds)})
    own = found[16, "fused", "uniform"]
    assert own is not None and own.chosen.batches == (2, 2)
    assert own.chosen.seconds_per_image == 1.0 and own.held_out.seconds_per_image == 4.0
    assert own.seconds == (4.0, 4.0)


def test_a_cap_that_nothing_fits_has_no_plan(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plans, "CAPS", (1, 16))
    found = plans.scored({name: costs(np.ones((2, 2, 2))) for name in ("fused", "slow")})
    assert found[1, "slow", "variable"] is None
    rows = plans.planned(found)
    assert {r["case"]["cap_mb"] for r in rows} == {16} and len(rows) == 4
    arms = plans.arms(found)
    assert set(arms) == {
        f"{kind}-batch{end}" for kind in ("uniform", "variable") for end in ("", "-16mb", "-fused", "-fused-16mb")
    }  # fmt: skip
    assert all(len(own) == 1 for own in arms.values())


def test_the_surface_keeps_its_limits_of_latency(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plans, "CAPS", (16,))
    monkeypatch.setattr(plans, "LATENCIES", (0.1, 2.5, 10.0))
    # Two units: an image alone takes 2 s; a pair 3 s, so that an image takes 1.5 s and its latency is 3 s.
    rows = plans.surface({"fused": costs(np.array([[[1.0, 1.5], [1.0, 1.5]]] * 2))})
    found = {r["case"]["latency_cap_ms"]: (r["case"]["batches"], r["rate"]) for r in rows}
    assert found == {2500: ([1, 1], 0.5), 10000: ([2, 2], pytest.approx(2 / 3))}


@pytest.mark.slow
def test_a_quick_run_has_everything(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inference, "SHRINK", SHRINK)
    monkeypatch.setattr(inference, "QUICK_REPEATS", 2)
    inference.nets.cache_clear()
    inference.chosen_plans.cache_clear()
    rows = inference.rows(quick=True)
    assert {r["case"]["what"] for r in rows} >= {"size", "decode", "layer", "memory", "net", "plan", "run"}
    rounds = inference.rounds(quick=True)
    assert {"uniform-batch", "variable-batch", "uniform-batch-fused", "variable-batch-fused"} <= set(rounds)
    assert {len(own) for own in rounds.values()} == {inference.QUICK_ROUNDS // 2}
    json.dumps([rows, rounds])
    assert "32 MB, fused decoder: " in inference.summary(rows)
