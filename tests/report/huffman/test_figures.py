"""Paper 5's tables and figures: stages and sizes of runs, rows of a bench, sentences that follow from the numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.report.huffman.made import DENSITY, LAYERS, bench, final, measured, planned

from leandnn.bench.benchfile import BenchFile
from leandnn.report.huffman import frames

pytestmark = pytest.mark.usefixtures("drawn")


def test_without_runs_there_are_no_rows(tmp_path: Path):
    assert frames.compression(tmp_path).empty and frames.recorded(tmp_path).empty


def test_runs_of_the_pipeline_are_found(tmp_path: Path):
    folder = tmp_path / "huffman" / "compression" / "huffman-s3"
    folder.mkdir(parents=True)
    facts = {"arm": "huffman", "seed": 3, "steps": 1, "parameters": 1, "failure": None}
    (folder / "metrics.json").write_text(json.dumps({**facts, "metrics": {"coded_accuracy": 0.7}}))
    (folder / "history.csv").write_text("epoch\n1\n")
    assert frames.compression(tmp_path).coded_accuracy.tolist() == [0.7]


def test_accuracies_have_a_row_a_seed_and_stage():
    found = frames.accuracies(final())
    assert len(found) == 2 * 7
    assert found[(found.seed == 1) & (found.stage == "pruned")].accuracy.item() == pytest.approx(0.711)


def test_sizes_and_bits_are_means_over_the_seeds_by_layer():
    assert frames.layers(final()) == set(LAYERS)
    assert frames.sizes(final(), ["b", "a"]).index.tolist() == ["b", "a"]
    sizes = frames.sizes(final(), list(LAYERS))
    assert sizes.index.tolist() == ["a", "b"] and sizes.columns.tolist() == list(frames.SIZES)
    assert sizes.coded.tolist() == pytest.approx([100.5, 300.5]) and sizes.dense.tolist() == [4000, 12000]
    bits = frames.bits(final(), list(LAYERS))
    assert bits.nonzeros.tolist() == [100, 300]
    assert bits["tables, rows and offsets"].tolist() == pytest.approx([150, 450])
    assert bits["indices"].tolist() == pytest.approx([300, 900]) and bits.entropy.tolist() == [500, 1500]


def test_a_benchs_sizes_come_in_the_same_table():
    found = frames.bench_bits(bench(), "smallest", DENSITY)
    assert found.index.tolist() == ["a", "b"]  # the sum of all layers is none
    assert found["tables, rows and offsets"].tolist() == pytest.approx([160, 480])
    assert found.nonzeros.tolist() == pytest.approx([100, 300])
    assert found.columns.tolist() == frames.bits(final(), list(LAYERS)).columns.tolist()
    assert frames.bench_bits(bench(), "lanes", DENSITY).empty


def test_layers_are_compared_with_the_faster_dense_product():
    found = frames.against_dense(bench())
    own = found[(found.layer == "fc7") & (found.batch == 64)].set_index("impl").times
    assert own["leandnn"] == pytest.approx(4.0) and own["torch.dense"] == pytest.approx(0.8)


def test_the_whole_net_is_a_table_of_time_and_memory():
    found = frames.whole_net(
        BenchFile({}, [measured("leandnn", 20.0, "net", batch=1, weight_bytes=12_345_678)])
    )
    assert found.to_dict("records") == [
        {"batch": 1, "implementation": "leandnn", "ms an image": 50.0, "MB held for weights": 12.35}
    ]
    assert frames.whole_net(BenchFile({}, [])).empty


def test_gains_compare_kinds_of_one_decoder_at_one_cap():
    found = frames.gains(frames.plans(bench())).set_index(["decoder", "cap_mb"])
    assert found.held_out["slow", 16] == pytest.approx(0.2) and found.chosen["slow", 16] == pytest.approx(0.3)
    assert found.held_out["fused", 32] == pytest.approx(0.04)


def test_a_cap_that_only_one_kind_fits_has_no_gain():
    kept = [r for r in bench().rows if not (r["impl"] == "slow uniform" and r["case"]["cap_mb"] == 16)]
    found = frames.gains(frames.plans(BenchFile({}, kept)))
    assert found[found.decoder == "slow"].cap_mb.tolist() == [32]


def test_plans_with_a_latency_limit_count_in_the_surface_alone():
    extra = planned("fused", "variable", 16, 1.0, 1.0, latency_cap_ms=5.0)
    extra["case"]["what"] = "surface"
    found = frames.plans(BenchFile({}, [extra, *bench().rows]))
    assert found.latency_cap_ms.notna().sum() == 1
    assert frames.gains(found).equals(frames.gains(frames.plans(bench())))
    assert frames.conclusions(found) == frames.conclusions(frames.plans(bench()))


def test_the_conclusions_are_those_of_the_numbers():
    slow, fused, uniform, variable = frames.conclusions(frames.plans(bench()))
    assert "slow decoder" in slow and "+20.0 % to +20.0 %" in slow
    assert "of 2 caps 2 lie within the published 15 to 25 %, 0 below, 0 above" in slow
    assert "of 2 caps 0 lie within the published 15 to 25 %, 2 below" in fused
    assert (
        "1.25 to 1.25 times" in uniform and "faster at 2 of 2 caps; so a fast decoder gives more" in uniform
    )
    assert "1.30 to 1.30 times" in variable and "gives" not in variable


@pytest.mark.parametrize(
    ("factors", "words"),
    [((0.5, 0.5), "does not give more than"), ((0.5, 3.0), "it depends on the cap")],
)
def test_a_fused_decoder_that_is_slower_is_said_to_be(factors: tuple[float, float], words: str):
    found = []
    for cap, factor in zip((16, 32), factors, strict=True):
        found += [
            planned("slow", "variable", cap, 10.0, 10.0),
            planned("fused", "uniform", cap, 10 * factor, 1.0),
        ]
    (sentence,) = frames.conclusions(frames.plans(BenchFile({}, found)))
    assert words in sentence


def test_without_plans_there_are_no_conclusions():
    assert frames.conclusions(frames.plans(BenchFile({}, []))) == []
