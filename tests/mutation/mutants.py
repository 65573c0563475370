# ruff: noqa: E501 - a table, a line each
"""Realistic mistakes, each of which the test suite must notice: what `tools/mutate` tries one by one.

Three tables of mistakes in kernels, statistics and the ledger of evidence; and, of tests/studies/mutants.py, the edits
of what runs compute, with the tests of the folder that they are in.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.studies import mutants as of_behaviour

ROOT = Path(__file__).resolve().parents[2]


class Mutant(NamedTuple):
    """One mistake. `text` stands in the file; its first occurrence becomes `other`.

    - file: below src/leandnn. tests: below tests/, files or folders, in the order in which they are asked.
    - survives: why no test should notice it; "" for all that one must.
    """

    what: str
    file: str
    text: str
    other: str
    tests: tuple[str, ...]
    survives: str = ""


ROUNDING = ("kernels/test_rounding.py",)
PANELS = ("kernels/test_panels.py", "kernels/test_panels_conv.py", "kernels/test_panels_attack.py")
HUFFMAN = ("kernels/test_huffman.py", "kernels/test_huffman_hostile.py")
KERNELS = [
    Mutant("BF16 rounds ties away from zero", "kernels/rounding/cpu/rounding.inc",
           "bits + bias + ((bits >> drop) & 1u)", "bits + bias + 1u", ROUNDING),
    Mutant("toward zero takes a step off exact values", "kernels/rounding/cpu/rounding.inc",
           "result > clamped ? nearest - step", "result >= clamped ? nearest - step", ROUNDING),
    Mutant("stochastic BF16 goes up half as often", "kernels/rounding/cpu/rounding.inc",
           "(upper >> (32 - drop))", "(upper >> (33 - drop))", ROUNDING),
    Mutant("the last few values have the first ones' random bits", "kernels/rounding/cpu/rounding.inc",
           "round_few(rounder, src + i, dst + i, n - i, start + i)", "round_few(rounder, src + i, dst + i, n - i, start)", ROUNDING),
    Mutant("a small format's first power out of range stays finite", "kernels/rounding/cpu/rounding.inc",
           "result >= (i32)over ? infinity", "result > (i32)over ? infinity", ROUNDING),
    Mutant("the reference rounds ties to odd", "kernels/rounding/reference.py", "kept % 2 == 1", "kept % 2 == 0", ROUNDING),
    Mutant("the least normal value is flushed", "kernels/rounding/reference.py",
           "result < least_normal, 0", "result <= least_normal, 0", ROUNDING),
    Mutant("an overlap is measured in values instead of bytes", "kernels/rounding/ops.py", "apart >= 4 * n", "apart >= n", ROUNDING),
    Mutant("BF16 results of a product round ties up", "kernels/panels/cpu/packing.inc",
           "0x7FFFu + ((word >> 16) & 1u)", "0x8000u", PANELS),
    Mutant("ReLU makes NaN zero", "kernels/panels/cpu/product.inc", "r < 0.0f ? Vec<N>{} : r", "r > 0.0f ? r : Vec<N>{}", PANELS),
    Mutant("a product with one column forgets one of the last columns", "kernels/panels/cpu/product.inc",
           "for (long tail = c;", "for (long tail = c + 1;", PANELS),
    Mutant("the gradient of the values is of the last block alone", "kernels/panels/cpu/sampled.inc",
           "accumulate ? *to + sums : sums", "accumulate ? sums : sums", PANELS),
    Mutant("tiles of the transposed matrix are not transposed", "kernels/panels/cpu/packing.inc",
           "to[l * h_t + j] = from[j * h + l]", "to[j * h_t + l] = from[j * h + l]", PANELS),
    Mutant("a whole byte may be left over behind a stream", "kernels/huffman/cpu/streams.inc",
           "return end - bit < 8;", "return end - bit <= 8;", HUFFMAN),
    Mutant("words may be left over behind a group", "kernels/huffman/cpu/decoding.hpp",
           'if (!words.done()) broken("a group\'s stream goes on after its rows have ended");', "", HUFFMAN),
    Mutant("a row may end one column outside of the matrix", "kernels/huffman/cpu/coded.cpp",
           'if (column >= a_.columns) broken("a row leads out of the matrix");\n          to', 'if (column > a_.columns) broken("a row leads out of the matrix");\n          to', HUFFMAN),
    Mutant("an error of a thread is lost", "kernels/threads.cpp",
           "if (job.error) std::rethrow_exception(job.error);", "", (*HUFFMAN, *PANELS)),
    Mutant("a code may leave bit strings without a symbol", "kernels/huffman/codes.py",
           "if filled != 1 << limit", "if filled > 1 << limit", HUFFMAN),
    Mutant("code words may be a bit too long", "kernels/huffman/codes.py", "range(limit - 1)", "range(limit)", HUFFMAN),
    Mutant("entropy in nats", "kernels/huffman/codes.py", "np.log2(", "np.log(", HUFFMAN),
    Mutant("a checksum of long data forgets what came before", "kernels/huffman/checksum.py",
           "_apply(skip, state) ^ chunk", "chunk", HUFFMAN),
    Mutant("the second best kernels serve where nothing is asked for", "kernels/dispatch.py",
           "else supported()[-1]", "else supported()[-2]", ROUNDING),
]  # fmt: skip

CLAIMS = ("claims/test_statistics.py", "claims/test_judge.py", "claims/test_evidence.py")
RULES = ("claims/test_judge.py", "claims/test_evidence.py")
EVIDENCE = ("claims/test_evidence.py", "studies/test_records.py")
STATISTICS = [
    Mutant("the population's standard deviation", "claims/statistics.py", "x.std(ddof=1)", "x.std(ddof=0)", CLAIMS),
    Mutant("an interval's level is taken as one-sided", "claims/statistics.py",
           "stdtrit(n - 1, (1 + confidence) / 2)", "stdtrit(n - 1, confidence)", CLAIMS),
    Mutant("one degree of freedom too many", "claims/statistics.py", "stdtrit(n - 1, (1 + c", "stdtrit(n, (1 + c", CLAIMS),
    Mutant("equivalence by one of the two tests", "claims/statistics.py",
           "-margin < d.low and d.high < margin", "d.high < margin", CLAIMS),
    Mutant("equivalence judged at alpha instead of 2 alpha", "claims/statistics.py",
           "_mean_interval(a - b, 1 - 2 * alpha)", "_mean_interval(a - b, 1 - alpha)", CLAIMS),
    Mutant("p of the further margin", "claims/statistics.py", "margin - abs(d.mean)", "margin + abs(d.mean)", CLAIMS),
    Mutant("a bootstrap's percentiles are not widened", "claims/statistics.py",
           "float(ndtr(-math.sqrt(d.n / (d.n - 1)) * t))", "(1 - confidence) / 2", CLAIMS),
    Mutant("power of a two-sided test", "claims/statistics.py", "stdtrit(nu, 1 - alpha)", "stdtrit(nu, 1 - alpha / 2)", CLAIMS),
    Mutant("one pair too few is enough", "claims/statistics.py", "            enough = middle\n    return enough", "            enough = middle\n    return few", CLAIMS),
    Mutant("a rule's interval has the confidence of one test", "claims/judge.py",
           "level = 1 - 2 * (1 - rule.confidence)", "level = rule.confidence", RULES),
    Mutant("lower is better counts for nothing", "claims/judge.py",
           "else (pairs.control, pairs.treatment)", "else (pairs.treatment, pairs.control)", RULES),
    Mutant("a verdict from one pair too few", "claims/judge.py", "if n < rule.n:", "if n < rule.n - 1:", RULES),
    Mutant("not reproduced where the interval only crosses the margin", "claims/judge.py",
           "if high <= -rule.margin:", "if low <= -rule.margin:", RULES),
    Mutant("reproduced where the interval only reaches the bound", "claims/judge.py", "if low >= least:", "if high >= least:", RULES),
    Mutant("better where one of several rules is", "claims/judge.py",
           "REPRODUCED if REPRODUCED in words else BETTER", "BETTER if BETTER in words else REPRODUCED", RULES),
    Mutant("the last step stands for all", "claims/judge.py", "worst = min(found, key=goodness)", "worst = found[-1]", RULES),
    Mutant("values of other seeds are paired", "claims/evidence.py",
           "for _, b in kept.values())", "for _, b in reversed(kept.values()))", EVIDENCE),
    Mutant("runs of another budget are a pair", "claims/evidence.py", "alike = a.made == b.made and ", "alike = ", EVIDENCE),
    Mutant("of a run's records the oldest counts", "claims/evidence.py", "for run in reversed(self.runs)", "for run in self.runs", EVIDENCE),
    Mutant("a planned run is paired with one that no plan asked for", "claims/evidence.py",
           "a.made == b.made and a.planned == b.planned", "a.made == b.made", RULES),
    Mutant("any plan makes a record decide", "claims/study_runs.py",
           'planned=entry.get("plan") in plans', 'planned=bool(entry.get("plan"))', EVIDENCE),
    Mutant("a share is shown as percentage points", "claims/words.py", "{100 * value:{sign}.2f} pp", "{value:{sign}.2f} pp", ("claims/test_words.py",)),
    Mutant("the mean is called the median", "bench/timing.py", "median_s=median", "median_s=statistics.fmean(times)", ("bench/test_bench.py",)),
    Mutant("a rate at the fast quartile", "bench/timing.py", "rate=work / median", "rate=work / p25", ("bench/test_bench.py",)),
    Mutant("the first measured round is warm-up", "bench/timing.py", "if i >= warmup:", "if i > warmup:", ("bench/test_bench.py",)),
    Mutant("how many times slower instead of faster", "bench/benchfile.py",
           'ratio(self.rate("leandnn", threads, **case), self.rate(peer, threads, **case))',
           'ratio(self.rate(peer, threads, **case), self.rate("leandnn", threads, **case))', ("bench/test_targets.py",)),
    Mutant("a speed at its bound is missed", "bench/targets.py", "value >= self.bound", "value > self.bound", ("bench/test_targets.py",)),
    Mutant("a difference of the wrong sign in figures", "report/runs.py",
           "both.treatment - both.control", "both.control - both.treatment", ("report/test_runs.py", "report/bf16", "report/rbgp", "report/hbsnn", "report/autosparse")),
    Mutant("the larger scale speaks, verdict or not", "report/scoreboard.py",
           "finding.verdict in VERDICTS, size, finding.n", "size, finding.verdict in VERDICTS, finding.n", ("report/test_scoreboard.py", "report/test_pages.py")),
    Mutant("the mean price of a run is called the median", "report/costs.py",
           '_minutes(median(run["seconds"] for run in arm[1]))', '_minutes(sum(run["seconds"] for run in arm[1]) / len(arm[1]))', ("report/test_costs.py",)),
]  # fmt: skip

RECORDS, PROOFS = ("studies/test_records.py",), ("studies/test_proofs.py",)
PROVE, EDITS = ("studies/test_proving.py",), ("studies/test_edits.py",)
LEDGER = [
    Mutant("an edited error is trusted", "studies/records.py",
           'if (found := digest(record)) != record["sha256"]:', 'if (found := digest(record)) != record["sha256"] and part == "runs":', RECORDS),
    Mutant("a record replaces the run's older one", "studies/records.py", "document[part].append(signed(record))",
           "document[part] = [*(one for one in document[part] if name(one) != name(record)), signed(record)]", RECORDS),
    Mutant("a file's damaged record goes when one is added", "studies/records.py", "        if problems:", "        if problems and not document:", RECORDS),
    Mutant("a file of any format is read", "studies/records.py", "if found not in (1, FORMAT):", "if found is None:", RECORDS),
    Mutant("an error of other code is forgotten", "studies/records.py", 'keys = ("behaviour", "code", "budget"', 'keys = ("budget"', RECORDS),
    Mutant("an edited proof is trusted", "studies/proofs.py",
           'if (digest := signed(proof)["sha256"]) != proof["sha256"]:', 'if not (digest := signed(proof)["sha256"]):', PROOFS),
    Mutant("a proof between two chains joins one of its ends alone", "studies/proofs.py", "if own == new}", "if digest == new}", PROOFS),
    Mutant("a chain of proofs stands for its last digest", "studies/proofs.py",
           "for proof in read():", "for proof in reversed(read()):", PROOFS),
    Mutant("of equal records the oldest counts", "studies/standing.py", "<= rank(standing(best[name]))", "< rank(standing(best[name]))", PROOFS),
    Mutant("whatever was proved once is called equal to today's", "studies/standing.py",
           "proofs.canonical(own) == proofs.canonical(now)", "own in proofs.classes()", PROOFS),
    Mutant("equal to a hundredth is called equal", "studies/prove.py",
           'if one["metrics"].get(n) != other["metrics"].get(n))', 'if abs(one["metrics"].get(n) - other["metrics"].get(n)) > 0.01)', PROVE),
    Mutant("equal metrics are enough without equal weights", "studies/prove.py", '("weights_sha256", "failure", "history")', '("failure", "history")', PROVE),
    Mutant("a base that did something else will do", "studies/prove.py",
           "if was is None or proofs.canonical(was.digest) != proofs.canonical(evidence.behaviour):", "if was is None:", PROVE),
    Mutant("changed lines need be executed after the edit alone", "studies/prove.py",
           "zip((old, new), (edit.before, edit.after), sides, strict=True)", "zip((new,), (edit.after,), sides[1:], strict=True)", PROVE),
    Mutant("an arm of other values may be proved in miniature", "studies/prove.py", "if was.value != now.value:", "if was.value is None:", PROVE),
    Mutant("what an edit adds is not weighed", "studies/edits.py",
           "[*(weights[0] - weights[1]), *(weights[1] - weights[0])]", "[*(weights[0] - weights[1])]", EDITS),
    Mutant("a constant may change its value", "studies/edits.py",
           'f"the constant {node.value!r}"', 'f"the constant {type(node.value)}"', EDITS),
    Mutant("compiled code may be proved in miniature", "studies/edits.py", 'if " for " in place}', 'if " of " in place}', EDITS),
    Mutant("a run's key leaves out arm and seed", "studies/runs.py", "hashlib.sha256(self.to_json()", "hashlib.sha256(json.dumps(self.facts)", ("studies/test_runs.py",)),
    Mutant("runs come arm by arm", "studies/runs.py", "        for seed in seeds\n        for arm in comparison.arms", "        for arm in comparison.arms\n        for seed in seeds", ("studies/test_runs.py",)),
    Mutant("a record of another seed counts as the run's", "studies/desk.py",
           '"arm": run.arm, "seed": run.seed, **run.facts}', '"arm": run.arm, **run.facts}', ("studies/test_runs.py",)),
    Mutant("a record of other code counts as the run's", "studies/desk.py",
           'proofs.canonical(record["behaviour"]) == proofs.canonical(behaviour)', "True", ("studies/test_runs.py",)),
]  # fmt: skip

# Of the edits of what runs compute: the tests to ask where those of the folder are not the ones, and known survivors.
_TESTS = {"seed handed to the arm": ("studies/test_runs.py",)}
_SETTING = "a setting, which no test repeats: the digest of what an arm does notices it"
_EQUAL = "computes the same numbers, or as good ones"
_SURVIVE = {
    "weight decay of a study": _SETTING,
    "momentum of batch norm": _SETTING,
    "α in its last tenth": _SETTING,
    "ImageNet's crop": _SETTING,
    "learning rate of a domain": _SETTING,
    "interval of RigL by one": _SETTING,
    "α of Top-K": _SETTING,
    "density of a hierarchy": _SETTING,
    "share of a phase": _SETTING,
    "width of a recommender": _SETTING,
    "seed given to torch": _EQUAL,
    "pruning at full length only": "differs at one step of hundreds: the digest of what an arm does notices it",
    "order of a kernel's sums": _EQUAL,
    "path without any instruction set": _EQUAL,
    "readable rounding where no kernel is built": _EQUAL,
}


def _asked(path: str) -> tuple[str, ...]:
    """The tests of the folder that a module is in, its own first."""
    folder, _, name = path.removeprefix("src/leandnn/").partition("/")
    if folder == "kernels":
        room = name.partition("/")[0]
        return {"rounding": ROUNDING, "panels": PANELS, "huffman": HUFFMAN}[room]
    own = f"{folder}/test_{Path(name).stem}.py"
    return ((own,) if (ROOT / "tests" / own).exists() else ()) + (folder,)


def every() -> list[Mutant]:
    """All of them. Not edits of the build itself, since the runner builds what is tested, nor what does not compile."""
    edits = [
        edit
        for edit in (*of_behaviour.MUTANTS, *of_behaviour.VALUES)
        if edit.path.startswith("src/") and edit.what != "instruction set that not every CPU runs"
    ]
    further = [
        Mutant(
            edit.what, edit.path.removeprefix("src/leandnn/"), edit.text, edit.other,
            _TESTS.get(edit.what, _asked(edit.path)), _SURVIVE.get(edit.what, ""),
        )
        for edit in edits
    ]  # fmt: skip
    return [*KERNELS, *STATISTICS, *LEDGER, *further]
