"""Data frames behind the figures of paper 5: stages of the compression runs, and rows of the bench `huffman`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from leandnn.bench.benchfile import BenchFile
from leandnn.bench.huffman.targets import DENSE
from leandnn.errors import LeandnnError
from leandnn.report import runs

# Stages of a run, as its metrics call them, in words.
STAGES = {
    "dense": "dense",
    "pruned": "pruned",
    "retrained": "retrained",
    "shared": "shared",
    "fine_tuned": "fine-tuned",
    "coded": "coded",
}
CONTROL = "control"  # the dense net, trained on for as many updates
SIZES = {
    "dense": "dense, FP32",
    "pruned": "pruned: FP32 values, relative indices",
    "shared": "shared: codebook numbers, relative indices",
    "coded": "Huffman-coded",
}
# Where the bits of a coded layer go: words → metrics of a run.
PARTS = {
    "weights": ("weight_code_bits",),
    "indices": ("advance_code_bits",),
    "tables, rows and offsets": ("table_bits", "row_bits"),
    "padding": ("padding_bits",),
}
CLAIMED = (0.15, 0.25)  # what the paper says that batch sizes per layer gain
DECODERS = ("slow", "fused")
KINDS = ("uniform", "variable")


def compression(runs_dir: Path | str) -> pd.DataFrame:
    """The pipeline's runs of the compression, one row a seed; empty without runs."""
    try:
        return runs.load(Path(runs_dir) / "huffman" / "compression")[0]
    except LeandnnError:  # not of the active profile
        return pd.DataFrame(columns=["arm", "seed"])


def recorded(root: Path, profile: str = "desk") -> pd.DataFrame:
    """The same of the runs outside the pipeline, of the first machine that has them; empty where none has."""
    records = runs.load_records(root, "huffman-compression", profile)
    return pd.DataFrame(columns=["arm", "seed"]) if records is None else records[0]


def accuracies(final: pd.DataFrame) -> pd.DataFrame:
    """One row per seed and stage: seed, stage (of STAGES, and the control), accuracy."""
    columns = {f"{stage}_accuracy": stage for stage in (*STAGES, CONTROL)}
    wide = final[["seed", *columns]].rename(columns=columns)
    return wide.melt("seed", var_name="stage", value_name="accuracy")


def layers(final: pd.DataFrame) -> set[str]:
    """The layers' names; metrics have no order."""
    end = ".coded_bytes"
    return {name.removesuffix(end) for name in final.columns if name.endswith(end)}


def sizes(final: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Mean bytes over the seeds: a row per layer, as names has them, a column per stage of SIZES."""
    means = final.mean(numeric_only=True)
    return pd.DataFrame({stage: {name: means[f"{name}.{stage}_bytes"] for name in names} for stage in SIZES})


def bits(final: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Mean bits over the seeds: a row per layer, as names has them; nonzeros, the parts of PARTS, entropy."""
    means = final.mean(numeric_only=True)
    found = {}
    for name in names:
        parts = {words: sum(means[f"{name}.{own}"] for own in owns) for words, owns in PARTS.items()}
        entropy = means[f"{name}.entropy_bits"]
        found[name] = {"nonzeros": means[f"{name}.nonzeros"], **parts, "entropy": entropy}
    return pd.DataFrame.from_dict(found, orient="index")


def bench_bits(bench: BenchFile, layout: str, density: Mapping[str, float]) -> pd.DataFrame:
    """The same of the full-size AlexNet in the bench, in one layout; empty where it was not measured.

    - density: layer → share of its weights that are not zero.
    """
    found = {}
    for row in bench.rows:
        case = row["case"]
        if case.get("what") == "size" and case["layout"] == layout and case["layer"] in density:
            known = [case[f"{part}_bytes"] for part in ("weight", "index", "padding")]
            sizes = [*known[:2], float(row["work"]) - sum(known), known[2]]
            parts = {words: 8 * size for words, size in zip(PARTS, sizes, strict=True)}
            nonzeros = density[case["layer"]] * case["dense_bytes"] / 4
            found[case["layer"]] = {"nonzeros": nonzeros, **parts, "entropy": 8 * case["entropy_bytes"]}
    return pd.DataFrame.from_dict(found, orient="index")


def of_case(bench: BenchFile, what: str, columns: Sequence[str]) -> pd.DataFrame:
    """Rows of one kind: the case's columns, impl, threads, seconds (median) and rate."""
    found = [
        {
            **{name: row["case"].get(name) for name in columns},
            "impl": row["impl"],
            "threads": row["threads"],
            "seconds": float(row["median_s"]),
            "rate": float(row["rate"]),
        }
        for row in bench.rows
        if row["case"].get("what") == what
    ]
    return pd.DataFrame(found, columns=[*columns, "impl", "threads", "seconds", "rate"])


def against_dense(bench: BenchFile) -> pd.DataFrame:
    """Linear layers: layer, batch, impl, times (how many times faster than the faster dense FP32 product)."""
    found = of_case(bench, "layer", ("layer", "batch"))
    best = found[found.impl.isin(DENSE)].groupby(["layer", "batch"]).rate.max().rename("dense")
    joined = found.merge(best, on=["layer", "batch"])
    return joined.assign(times=joined.rate / joined.dense)[["layer", "batch", "impl", "times"]]


def whole_net(bench: BenchFile) -> pd.DataFrame:
    """The whole AlexNet: batch, impl, ms an image, MB of weights held, one row each."""
    found = of_case(bench, "net", ("batch", "weight_bytes"))
    return pd.DataFrame(
        {
            "batch": found.batch,
            "implementation": found.impl,
            "ms an image": (1e3 / found.rate.astype(float)).round(2),
            "MB held for weights": (found.weight_bytes.astype(float) / 1e6).round(2),
        }
    )


def plans(bench: BenchFile) -> pd.DataFrame:
    """Plans by cap: cap_mb, decoder, kind, rate (held out), chosen_rate (of the rounds that chose), latency_ms, …

    Further columns: memory_mb, batches, latency_cap_ms (None where there was no limit).
    """
    columns = ("cap_mb", "latency_cap_ms", "latency_ms", "memory_mb", "choosing_ms", "batches")
    found = pd.concat([of_case(bench, what, columns) for what in ("plan", "surface")], ignore_index=True)
    words = found.impl.str.split(" ", expand=True).reindex(columns=[0, 1])
    return found.assign(decoder=words[0], kind=words[1], chosen_rate=1e3 / found.choosing_ms.astype(float))


def gains(found: pd.DataFrame) -> pd.DataFrame:
    """What batch sizes per layer gain over one size for all, where both fit: decoder, cap_mb, held_out, chosen.

    - found: see plans; its rows without a limit of latency count.
    """
    free = found[found.latency_cap_ms.isna()]
    rows = []
    for (decoder, cap), own in free.groupby(["decoder", "cap_mb"], sort=False):
        by_kind = own.drop_duplicates("kind").set_index("kind")
        if set(KINDS) <= set(by_kind.index):
            variable, uniform = by_kind.loc["variable"], by_kind.loc["uniform"]
            rows.append(
                {
                    "decoder": decoder,
                    "cap_mb": cap,
                    "held_out": variable.rate / uniform.rate - 1,
                    "chosen": variable.chosen_rate / uniform.chosen_rate - 1,
                }
            )
    return pd.DataFrame(rows, columns=["decoder", "cap_mb", "held_out", "chosen"])


def conclusions(found: pd.DataFrame) -> list[str]:
    """What plans say of the paper's 15 to 25 %, in sentences made of the numbers alone.

    - found: see plans; empty gives no sentences.
    """
    gained = gains(found)
    sentences = [_gain(gained[gained.decoder == name].held_out, name) for name in DECODERS]
    free = found[found.latency_cap_ms.isna()]
    rates = free.drop_duplicates(["cap_mb", "impl"]).pivot(index="cap_mb", columns="impl", values="rate")
    for kind in KINDS:
        if {f"fused {kind}", "slow variable"} <= set(rates.columns):
            times = (rates[f"fused {kind}"] / rates["slow variable"]).dropna()
            sentences.append(_faster(times, kind) if len(times) else "")
    return [sentence for sentence in sentences if sentence]


def _gain(values: pd.Series[float], decoder: str) -> str:
    if values.empty:
        return ""
    low, high = CLAIMED
    inside = int(values.between(low, high).sum())
    below, above = int((values < low).sum()), int((values > high).sum())
    span = f"{100 * values.min():+.1f} % to {100 * values.max():+.1f} %"
    return (
        f"With the {decoder} decoder batch sizes per layer change throughput by {span} (held out, by cap of memory): "
        f"of {len(values)} caps {inside} lie within the published {100 * low:.0f} to {100 * high:.0f} %, {below} "
        f"below, {above} above."
    )


def _faster(times: pd.Series[float], kind: str) -> str:
    words = {"uniform": "one batch size for all layers", "variable": "batch sizes per layer"}[kind]
    faster = int((times > 1).sum())
    verdict = (
        "so a fast decoder gives more than the choice of batch sizes"
        if faster == len(times)
        else "so a fast decoder does not give more than the choice of batch sizes"
        if faster == 0
        else "so it depends on the cap which of the two gives more"
    )
    end = f"; {verdict}" if kind == "uniform" else ""
    return (
        f"The fused decoder with {words} is {times.min():.2f} to {times.max():.2f} times as fast as the slow one "
        f"with batch sizes per layer, faster at {faster} of {len(times)} caps{end}."
    )
