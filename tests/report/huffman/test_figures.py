"""Paper 5's tables and figures: stages and sizes of runs, rows of a bench, sentences that follow from the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from leandnn.bench.benchfile import BenchFile
from leandnn.report.huffman import figures, frames

pytestmark = pytest.mark.usefixtures("drawn")
LAYERS = {"a": 1000, "b": 3000}
DENSITY = dict.fromkeys(LAYERS, 0.1)
NAMES = {"a": "conv", "b": "linear"}


def final(seeds: int = 2) -> pd.DataFrame:
    """Runs of a net of two layers: seed s is s points better than seed 0, and as much larger when coded."""
    rows = []
    for seed in range(seeds):
        row: dict[str, Any] = {"arm": "huffman", "seed": seed}
        for place, stage in enumerate((*frames.STAGES, "control")):
            row[f"{stage}_accuracy"] = 0.7 + place / 1000 + seed / 100
        for name, weights in LAYERS.items():
            sizes = (4 * weights, weights / 2, weights / 5, weights / 10 + seed)
            row |= {f"{name}.{stage}_bytes": size for stage, size in zip(frames.SIZES, sizes, strict=True)}
            row |= {f"{name}.nonzeros": weights / 10, f"{name}.entropy_bits": 0.5 * weights}
            bits = {"weight_code": 0.3, "advance_code": 0.3, "table": 0.1, "row": 0.05, "padding": 0.05}
            row |= {f"{name}.{part}_bits": share * weights for part, share in bits.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def measured(impl: str, rate: float, what: str, **case: Any) -> dict[str, Any]:
    seconds = 1 / rate
    spread = {"p25_s": seconds, "p75_s": seconds, "n": 25}
    return {
        "case": {"what": what, **case}, "impl": impl, "threads": 1, "median_s": seconds, "rate": rate, **spread,
    }  # fmt: skip


def planned(decoder: str, kind: str, cap: int, rate: float, chosen: float, **case: Any) -> dict[str, Any]:
    case = {"latency_ms": 1e3 * cap / rate, "memory_mb": cap - 0.5, "batches": [1, 2], **case}
    return measured(f"{decoder} {kind}", rate, "plan", cap_mb=cap, choosing_ms=1e3 / chosen, **case)


def rows() -> list[dict[str, Any]]:
    """What bench/huffman/inference.py writes, in small."""
    found = []
    for name, weights in LAYERS.items():
        parts = {f"{part}_bytes": weights / 100 for part in ("weight", "index", "padding")}
        case = {
            "layout": "smallest",
            "layer": name,
            "dense_bytes": 4 * weights,
            "entropy_bytes": weights / 60,
        }
        found.append(measured("leandnn", 1.0, "size", **case, **parts) | {"work": weights / 20})
    case = {"layout": "smallest", "layer": "all", "dense_bytes": 16_000}
    found.append(measured("leandnn", 1.0, "size", **case) | {"work": 200.0})
    for case in ("fc6, 7 bits", "conv3, 256 values"):
        rates = {"leandnn": 8000.0, "leandnn.avx2.lanes": 3000.0, "huff0 (zstandard)": 1500.0}
        found += [measured(impl, rate, "decode", case=case) for impl, rate in rates.items()]
    found.append(measured("dahuffman", 2.0, "decode", case="fc6, 7 bits"))
    for layer in ("fc6", "fc7"):
        for batch in (1, 4, 64):
            rates = {
                "torch.dense": 100.0,
                "torch.dense (feature-major)": 125.0,
                "leandnn": 500.0,
                "other": 1.0,
            }
            found += [measured(i, r * batch, "layer", layer=layer, batch=batch) for i, r in rates.items()]
    for cap, slow in ((16, 20.0), (32, 40.0)):
        found.append(planned("slow", "uniform", cap, slow, slow))
        found.append(planned("slow", "variable", cap, 1.2 * slow, 1.3 * slow))
        found.append(planned("fused", "uniform", cap, 1.5 * slow, 1.5 * slow))
        found.append(planned("fused", "variable", cap, 1.56 * slow, 1.6 * slow))
    return found


@pytest.fixture
def bench() -> BenchFile:
    return BenchFile({"name": "m"}, rows())


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


def test_a_benchs_sizes_come_in_the_same_table(bench: BenchFile):
    found = frames.bench_bits(bench, "smallest", DENSITY)
    assert found.index.tolist() == ["a", "b"]  # the sum of all layers is none
    assert found["tables, rows and offsets"].tolist() == pytest.approx([160, 480])
    assert found.nonzeros.tolist() == pytest.approx([100, 300])
    assert found.columns.tolist() == frames.bits(final(), list(LAYERS)).columns.tolist()
    assert frames.bench_bits(bench, "lanes", DENSITY).empty


def test_layers_are_compared_with_the_faster_dense_product(bench: BenchFile):
    found = frames.against_dense(bench)
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


def test_gains_compare_kinds_of_one_decoder_at_one_cap(bench: BenchFile):
    found = frames.gains(frames.plans(bench)).set_index(["decoder", "cap_mb"])
    assert found.held_out["slow", 16] == pytest.approx(0.2) and found.chosen["slow", 16] == pytest.approx(0.3)
    assert found.held_out["fused", 32] == pytest.approx(0.04)


def test_a_cap_that_only_one_kind_fits_has_no_gain(bench: BenchFile):
    kept = [r for r in bench.rows if not (r["impl"] == "slow uniform" and r["case"]["cap_mb"] == 16)]
    found = frames.gains(frames.plans(BenchFile({}, kept)))
    assert found[found.decoder == "slow"].cap_mb.tolist() == [32]


def test_plans_with_a_latency_limit_count_in_the_surface_alone(bench: BenchFile):
    extra = planned("fused", "variable", 16, 1.0, 1.0, latency_cap_ms=5.0)
    extra["case"]["what"] = "surface"
    found = frames.plans(BenchFile({}, [extra, *bench.rows]))
    assert found.latency_cap_ms.notna().sum() == 1
    assert frames.gains(found).equals(frames.gains(frames.plans(bench)))
    assert frames.conclusions(found) == frames.conclusions(frames.plans(bench))


def test_the_conclusions_are_those_of_the_numbers(bench: BenchFile):
    slow, fused, uniform, variable = frames.conclusions(frames.plans(bench))
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


def test_stages_show_every_seed_and_its_distance_to_the_control():
    figure = figures.stages(frames.accuracies(final(3)), "NOTE")
    left, right = figure.axes
    assert sum(line.get_marker() == "o" for line in left.lines) == 3
    dots = [line for line in right.lines if line.get_marker() == "o"]
    assert len(dots) == 5 and len(dots[0].get_xdata()) == 3
    assert dots[-1].get_ydata().tolist() == pytest.approx([-0.1] * 3)  # coded is a tenth of a point below
    assert figure.get_suptitle() == "NOTE"


def test_the_waterfall_shows_all_bytes_and_bits_a_weight():
    left, right = figures.waterfall(frames.sizes(final(), list(LAYERS)), NAMES).axes
    assert [bar.get_width() for bar in left.patches] == pytest.approx([16, 2, 0.8, 0.401])
    assert "39.9×" in left.texts[-1].get_text() and "×" not in left.texts[0].get_text()
    assert left.get_xlim()[0] == 0  # bars whose lengths are compared start at nothing
    marks = [line.get_ydata().tolist() for line in right.lines]
    assert marks[0] == pytest.approx([32, 32]) and marks[1] == pytest.approx([4, 4]) and len(marks) == 4
    assert [label.get_text() for label in right.get_xticklabels()] == ["conv", "linear"]


def test_the_figure_of_bits_stacks_what_a_non_zero_weight_costs(bench: BenchFile):
    tables = {
        "trained": (frames.bits(final(), list(LAYERS)), NAMES),
        "full size": (frames.bench_bits(bench, "smallest", DENSITY), NAMES),
    }
    figure = figures.bits(tables)
    trained, full = figure.axes
    assert max(bar.get_y() + bar.get_height() for bar in trained.patches) == pytest.approx(8.0)
    assert max(bar.get_y() + bar.get_height() for bar in full.patches) == pytest.approx(4.0)
    (bound,) = trained.lines
    assert bound.get_ydata().tolist() == pytest.approx([5.0, 5.0])


def test_decoders_have_a_bar_for_all_that_was_measured(bench: BenchFile):
    first, second = figures.decoding(frames.of_case(bench, "decode", ("case",))).axes
    assert [label.get_text() for label in first.get_yticklabels()][-2:] == [
        "ours: avx2, lanes",
        "ours: best path, lanes",
    ]
    assert [bar.get_width() for bar in first.patches] == [2.0, 1500.0, 3000.0, 8000.0]
    assert [text.get_text() for text in second.texts] == ["1,500", "3,000", "8,000"]  # not what was not timed


def test_layers_leave_out_what_has_no_words(bench: BenchFile):
    first, second = figures.layers(frames.against_dense(bench)).axes
    ours = next(line for line in first.lines if line.get_label() == "coded, fused (ours)")
    assert ours.get_ydata().tolist() == pytest.approx([4.0] * 3)
    assert [label.get_text() for label in second.get_xticklabels()] == ["1", "4", "64"]
    drawn = [line for line in first.lines if len(line.get_xdata()) == 3]
    assert len(drawn) == 1


def test_the_figure_of_caps_shows_four_ways_and_the_gains(bench: BenchFile):
    left, right = figures.caps(frames.plans(bench)).axes
    lines = {line.get_label(): line.get_ydata().tolist() for line in left.lines}
    assert lines["fused decoder, per layer"] == pytest.approx([31.2, 62.4])
    gained = {line.get_label(): line for line in right.lines}
    assert gained["slow decoder, held out"].get_ydata().tolist() == pytest.approx([20, 20])
    chosen = [line for line in right.lines if line.get_marker() == "_" and len(line.get_xdata())]
    assert chosen[0].get_ydata().tolist() == pytest.approx([30, 30])
    assert list(chosen[0].get_xdata()) == list(gained["slow decoder, held out"].get_xdata()) == [0, 1]
    legend = [text.get_text() for text in right.get_legend().get_texts()]
    assert len(legend) == 4 and len(set(legend)) == 4
    assert [label.get_text() for label in right.get_xticklabels()] == ["16", "32"]


def test_the_surface_has_a_panel_a_decoder_and_a_colour_a_cap(bench: BenchFile):
    slow, fused = figures.surface(frames.plans(bench)).axes
    assert (slow.get_title(loc="left"), fused.get_title(loc="left")) == ("slow decoder", "fused decoder")
    lines = [line for line in fused.lines if line.get_label() in ("16 MB", "32 MB")]
    assert len(lines) == 2 and sorted(lines[0].get_ydata()) == pytest.approx([30, 31.2])
    assert np.isclose(min(slow.get_lines()[0].get_xdata()), 800)
