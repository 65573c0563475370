"""Runs of paper 1 net by net, from the pipeline and from the desk: their metrics, and what bounds them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from leandnn.claims import statistics
from leandnn.report import runs

ARMS = {"fp32": "FP32", "bf16": "BF16, emulated"}

# Comparison → net and data, metric, axis. The laptop's five come first.
NETS = {
    "vision": ("SmallResNet, CIFAR-10", "test_accuracy", "test accuracy"),
    "speech": ("DeepSpeech2-type, digits", "test_wer", "word error rate"),
    "language": ("GNMT-type, translation", "test_loss", "test loss, nats/token"),
    "generative": ("DC-GAN, CIFAR-10", "test_frechet_distance", "Fréchet distance"),
    "recommendation": ("DLRM, made-up clicks", "test_log_loss", "test log loss, nats"),
    "alexnet": ("AlexNet-type, CIFAR-10", "test_accuracy", "test accuracy"),
    "transformer": ("Transformer, translation", "test_loss", "test loss, nats/token"),
    "super_resolution": ("SR-GAN-type, CIFAR-10", "test_psnr", "PSNR, dB"),
    "deep_cross": ("Deep & Cross, made-up clicks", "test_log_loss", "test log loss, nats"),
}
LAPTOP = tuple(NETS)[:5]


@dataclass(frozen=True)
class Domain:
    """One net of the study: its title, the axis of its metric, its runs (see runs.load), and their scale."""

    title: str
    metric: str
    label: str
    final: pd.DataFrame
    history: pd.DataFrame
    scale: str = "laptop"

    @property
    def pairs(self) -> int:
        """Seeds that both arms have."""
        return len(runs.pairs(self.final, self.metric, "fp32", "bf16"))


def load(runs_dir: Path | str) -> list[Domain]:
    """The laptop's five domains, from the pipeline's runs."""
    return [Domain(*NETS[name], *runs.load(Path(runs_dir) / "bf16" / name)) for name in LAPTOP]


def widest(laptop: Mapping[str, Domain], root: Path) -> dict[str, Domain]:
    """Every net that was measured, at the scale with more pairs (the desk's where both have as many).

    - laptop: comparison → its domain at laptop scale.
    - root: the folder with reference/.
    """
    found = {}
    for name, words in NETS.items():
        desk = runs.load_records(root, f"bf16-{name}", "desk")
        domains = [] if desk is None else [Domain(*words, *desk, scale="desk")]
        domains += [laptop[name]] if name in laptop else []
        domains = [d for d in domains if set(ARMS) <= set(d.final.arm) and d.pairs]
        if domains:
            found[name] = max(domains, key=lambda d: d.pairs)
    return found


def results(domains: Sequence[Domain]) -> pd.DataFrame:
    """Every metric of the held-out data: mean ± standard deviation of both arms over the pairs, and their number."""
    rows = []
    for d in domains:
        both = set.intersection(*(set(d.final.seed[d.final.arm == arm]) for arm in ARMS))
        own = d.final[d.final.seed.isin(both)]
        for metric in sorted(c for c in map(str, own) if c.startswith("test_")):
            values = {arm: own[metric][own.arm == arm] for arm in ARMS}
            cells = {label: _spread(values[arm]) for arm, label in ARMS.items()}
            rows.append({"net": d.title, "metric": metric, **cells, "pairs": len(both), "scale": d.scale})
    return pd.DataFrame(rows).set_index(["net", "metric"])


def _spread(values: pd.Series) -> str:
    deviation = f" ± {values.std():.2g}" if len(values) > 1 else ""
    return f"{values.mean():.4g}{deviation}"


def contrasts(title: str, metric: str, final: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """A net's other formats and roundings beside FP32: mean, paired difference, updates lost, runs that failed and why.

    - final: the final metrics of all arms; order: the arms from top to bottom, those without runs are left out.

    The difference is the arm's minus FP32's over the seeds that both have, with its 90 % interval.
    """
    rows = []
    for arm in order:
        own = final[final.arm == arm]
        if own.empty:
            continue
        pairs = None if arm == "fp32" else runs.pairs(final, metric, "fp32", arm)
        failures = own.failure.dropna()
        lost = own.lost_updates.mean() if "lost_updates" in own else math.nan
        rows.append(
            {
                "net": title,
                "arm": arm,
                "n": len(own),
                "metric": metric,
                "mean": _spread(own[metric]),
                "minus FP32": ""
                if pairs is None or pairs.empty
                else _difference(pairs.treatment, pairs.control),
                "updates lost": "" if math.isnan(lost) else f"{lost:.0%}",
                "failed": f"{len(failures)} of {len(own)}" + "".join(f": {f}" for f in failures[:1]),
            }
        )
    return pd.DataFrame(rows).set_index(["net", "arm"])


def _difference(treatment: pd.Series, control: pd.Series) -> str:
    d = statistics.paired_difference(treatment.tolist(), control.tolist(), 0.9)
    ends = "" if d.low is None or d.high is None else f" [{d.low:+.2g}, {d.high:+.2g}]"
    return f"{d.mean:+.2g}{ends}, n = {d.n}"


def fixed_steps(domains: Mapping[str, Domain]) -> pd.DataFrame:
    """Training loss of both arms at the fixed steps: net, seed, step, fp32, bf16, difference (bf16 − fp32), unit."""
    found = []
    for domain in domains.values():
        wide = runs.trace(domain.final).pivot(index=["seed", "step"], columns="arm", values="train_loss")
        both = wide[list(ARMS)].dropna().reset_index()
        found.append(both.assign(net=domain.title, difference=both.bf16 - both.fp32, unit="nats"))
    return pd.concat(found, ignore_index=True)[
        ["net", "seed", "step", *ARMS, "difference", "unit"]
    ].rename_axis(columns=None)


def click_bounds(final: pd.DataFrame) -> tuple[float, float]:
    """The log losses of the true probabilities and of the constant share of clicks, on the runs' test rows.

    A run's gap is (log loss - best) / (constant - best), so that all runs lie on one line over the gap, whose ends at
    0 and 1 are the two. Takes two runs with different results or more; ValueError otherwise.
    """
    own = final.dropna(subset=["test_gap", "test_log_loss"])
    if own.test_gap.nunique() < 2:
        raise ValueError(
            f"{own.test_gap.nunique()} different gaps, expected at least 2: a line takes two points"
        )
    gaps, losses = own.test_gap.to_numpy(), own.test_log_loss.to_numpy()
    low, high = int(gaps.argmin()), int(gaps.argmax())
    span = float((losses[high] - losses[low]) / (gaps[high] - gaps[low]))
    best = float(losses[low] - span * gaps[low])
    return best, best + span
