"""Click logs: the made-up one has the bits and the odds it says, Criteo's is read strictly."""

from __future__ import annotations

import gzip
import hashlib
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from leandnn.data import clicks, clicks_synthesis, criteo, prepared, sources
from leandnn.data.clicks_synthesis import CATEGORIES, INTEGERS, SIZES
from leandnn.errors import LeandnnError

FIRST_BITS = "013cc6cd95b85b9d45da6f30f666ce19e8d391f2d33dd8af8bfdf4fbe88238ea"


@pytest.fixture(scope="module")
def rows() -> clicks.Clicks:
    return clicks.synthetic("train", 20_000)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> clicks_synthesis.ClickLog:
    """A log of a few rows in the place of the real one."""
    log = clicks_synthesis.click_log("clicks", 60, 10)
    monkeypatch.setitem(prepared.DATASETS, "clicks", log)
    monkeypatch.setattr(clicks, "CLICKS", log)
    return log


# --- the made-up log -------------------------------------------------------------------------------------


def test_the_first_rows_have_the_same_bits_on_every_machine():
    arrays = clicks_synthesis.arrays(clicks_synthesis.World(0), "train", 1000)
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()
    assert digest == FIRST_BITS


def test_a_row_depends_on_its_number_split_and_seed_alone():
    whole, part = clicks.synthetic("test", 40_000), clicks.synthetic("test", 33_000)
    assert torch.equal(whole.part(0, 33_000).categories, part.categories)
    assert torch.equal(whole.part(0, 33_000).labels, part.labels)
    for other in (clicks.synthetic("train", 1000), clicks.synthetic("test", 1000, seed=1)):
        assert not torch.equal(other.categories, part.part(0, 1000).categories)


def test_shapes_types_and_ranges(rows: clicks.Clicks):
    assert rows.integers.shape == (20_000, INTEGERS) and rows.integers.dtype == torch.int32
    assert rows.categories.shape == (20_000, CATEGORIES) and rows.categories.dtype == torch.int32
    assert rows.labels.dtype == torch.uint8 and set(rows.labels.tolist()) == {0, 1}
    known = rows.integers[rows.integers != clicks.MISSING]
    assert int(known.min()) == 0 and int(known.max()) < 2**15
    assert bool((rows.categories < torch.tensor(SIZES)).all()) and int(rows.categories.min()) == 0
    missing = (rows.integers == clicks.MISSING).float().mean(0)
    assert missing.nonzero().flatten().tolist() == [2, 5, 8, 11]
    assert torch.allclose(missing[[2, 5, 8, 11]], torch.tensor(1 / 8), atol=0.01)


def test_frequencies_fall_as_a_power_law(rows: clicks.Clicks):
    counts = np.sort(np.bincount(rows.categories[:, 0].numpy(), minlength=SIZES[0]))[::-1]
    assert counts[0] / counts[3] == pytest.approx(4**1.5, rel=0.1)
    assert counts[0] / counts[8] == pytest.approx(9**1.5, rel=0.2)


def test_labels_follow_the_stored_probabilities(rows: clicks.Clicks):
    assert rows.probabilities is not None
    p, y = rows.probabilities.double(), rows.labels.double()
    assert 0.2 < float(p.mean()) < 0.3
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.0)):
        inside = (p >= low) & (p < high)
        spread = math.sqrt(float((p * (1 - p))[inside].sum()))
        assert abs(float((y - p)[inside].sum())) < 4 * spread


def test_probabilities_are_those_of_the_formula_in_floats(rows: clicks.Clicks):
    world = clicks_synthesis.World(0)
    x = rows.integers[:500].clamp(min=0).double().numpy()
    c = rows.categories[:500].numpy()
    power = np.floor(np.log2(1 + x))
    logs = power + (1 + x) / 2**power - 1
    one = 4096.0
    z = clicks_synthesis._BIAS / one + logs @ (world.slope / one) + np.abs(logs - 4) @ (world.kink / one)
    vectors = [(logs - 2) @ (world.lean / one)]
    for f in range(CATEGORIES):
        z = z + world.effects[f][c[:, f]] / one
        vectors.append(world.vectors[f][c[:, f]] / one)
    for f in range(CATEGORIES + 1):
        for g in range(f + 1, CATEGORIES + 1):
            z = z + (vectors[f] * vectors[g]).sum(1)
    assert rows.probabilities is not None
    assert np.abs(1 / (1 + np.exp(-z)) - rows.probabilities[:500].numpy()).max() < 0.005


def test_the_table_of_probabilities_is_the_logistic_function():
    table = clicks_synthesis._table()
    k = np.arange(-12 * 256, 12 * 256 + 1) / 256
    assert np.abs(table / 2**24 - 1 / (1 + np.exp(-k))).max() < 2.0**-24
    assert np.array_equal(table + table[::-1], np.full(len(k), 2**24))
    assert table.min() > 0 and bool((np.diff(table) >= 0).all())


def test_the_logarithm_is_exact_at_powers_of_two_linear_between():
    counts = np.array([0, 1, 2, 3, 5, 7, 8190])
    expected = [
        int(256 * (math.floor(math.log2(n + 1)) + Fraction(n + 1, 2 ** math.floor(math.log2(n + 1))) - 1))
        for n in counts.tolist()
    ]
    assert clicks_synthesis._log2(counts).tolist() == expected


@pytest.mark.parametrize(("split", "count", "seed"), [("dev", 5, 0), ("train", 0, 0), ("train", 5, -1)])
def test_what_cannot_be_made_up_is_refused(split: str, count: int, seed: int):
    with pytest.raises(LeandnnError, match=r"dev|0 made-up rows|seed -1"):
        clicks.synthetic(split, count, seed)


# --- the prepared file -----------------------------------------------------------------------------------


def test_fetch_makes_the_file_and_load_reads_it_back(small: clicks_synthesis.ClickLog, tmp_path: Path):
    path = sources.fetch("clicks", raw=tmp_path, prepared=tmp_path, quiet=True)
    assert path == tmp_path / "clicks.safetensors" and not list(tmp_path.glob("*.partial"))
    assert set(prepared.verify("clicks", tmp_path)) == set(small.shapes)
    for split, count in (("train", 60), ("test", 10)):
        read, drawn = clicks.load(split, prepared=tmp_path), clicks.synthetic(split, count)
        for name in ("integers", "categories", "labels", "probabilities"):
            assert torch.equal(getattr(read, name), getattr(drawn, name)), name
    assert torch.equal(
        clicks.load("train", count=7, prepared=tmp_path).integers, clicks.synthetic("train", 7).integers
    )
    before = path.stat().st_mtime_ns
    sources.fetch("clicks", raw=tmp_path, prepared=tmp_path, quiet=True)
    assert path.stat().st_mtime_ns == before


def test_damage_is_found_and_mended_by_the_named_command(
    small: clicks_synthesis.ClickLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = sources.fetch("clicks", raw=tmp_path, prepared=tmp_path, quiet=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(
        LeandnnError, match=r"test_probabilities has SHA-256 .* run `leandnn data fetch clicks`"
    ):
        prepared.verify("clicks", tmp_path)
    sources.fetch("clicks", raw=tmp_path, prepared=tmp_path)
    assert "making it anew" in capsys.readouterr().out
    assert path.read_bytes() == whole


def test_load_refuses_what_does_not_fit(small: clicks_synthesis.ClickLog, tmp_path: Path):
    with pytest.raises(LeandnnError, match="is missing: run `leandnn data fetch clicks`"):
        clicks.load(prepared=tmp_path)
    path = sources.fetch("clicks", raw=tmp_path, prepared=tmp_path, quiet=True)
    with pytest.raises(LeandnnError, match="61 rows of clicks train were asked for, expected 1 to 60"):
        clicks.load(count=61, prepared=tmp_path)
    with pytest.raises(LeandnnError, match="no split 'dev'"):
        clicks.load("dev", prepared=tmp_path)
    start, _ = prepared.read_header(path, small)
    _, begin, _ = prepared.layout(small)["train_categories"]
    data = bytearray(path.read_bytes())
    data[start + begin : start + begin + 2] = b"\xff\xff"
    path.write_bytes(data)
    with pytest.raises(LeandnnError, match=r"categories reach \[65535, .*run `leandnn data fetch clicks`"):
        clicks.load(prepared=tmp_path)


def test_other_bits_than_the_pinned_ones_are_refused():
    wrong = clicks_synthesis.click_log("clicks", 5, 5, {"train_labels": "0" * 64})
    with pytest.raises(LeandnnError, match="train_labels of clicks comes out with SHA-256"):
        clicks_synthesis.make(wrong)


def test_the_real_log_is_pinned_and_small():
    assert set(clicks_synthesis.CLICKS.digests) == set(clicks_synthesis.CLICKS.shapes)
    assert sum(math.prod(shape) for shape in clicks_synthesis.CLICKS.shapes.values()) < 60_000_000


# --- batches ---------------------------------------------------------------------------------------------


def test_an_epoch_holds_every_row_once_and_resumes_in_the_middle(rows: clicks.Clicks):
    batches = clicks.Batches(rows.part(0, 103), 10, seed=3)
    assert len(batches) == 10
    first = list(batches.epoch(0))
    for whole, resumed in zip(first[4:], batches.epoch(0, 4), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    dense, entries, labels = first[0]
    assert (dense.dtype, entries.dtype, labels.dtype) == (torch.float32, torch.int64, torch.float32)
    assert dense.shape == (10, 13) and entries.shape == (10, 26) and labels.shape == (10,)
    seen = {tuple(row) for _, entries, _ in first for row in entries.tolist()}
    assert len(seen) == 100
    assert not torch.equal(next(batches.epoch(1))[1], entries)
    assert sum(len(labels) for _, _, labels in batches.evaluation(40)) == 103


def test_dense_features_are_logarithms_and_missing_ones_zero():
    values = torch.tensor([clicks.MISSING, -3, 0, 1, 100], dtype=torch.int32)
    assert torch.allclose(clicks.dense(values), torch.tensor([0.0, 0.0, 0.0, math.log(2), math.log(101)]))


def test_batches_refuse_sizes_seeds_and_places_not_there(rows: clicks.Clicks):
    few = rows.part(0, 5)
    with pytest.raises(LeandnnError, match="the batch size is 6, expected 1 to 5"):
        clicks.Batches(few, 6, seed=0)
    with pytest.raises(LeandnnError, match="the seed is -1"):
        clicks.Batches(few, 2, seed=-1)
    with pytest.raises(LeandnnError, match="epoch 0, step 3"):
        clicks.Batches(few, 2, seed=0).epoch(0, 3)
    with pytest.raises(LeandnnError, match="the batch size is 0"):
        next(clicks.Batches(few, 2, seed=0).evaluation(0))


# --- days ------------------------------------------------------------------------------------------------


def test_the_last_day_is_the_end_of_the_log(rows: clicks.Clicks):
    before, last = clicks.split_days(rows.part(0, 72))
    assert len(before) == 60 and len(last) == 12
    assert torch.equal(last.categories, rows.part(60, 72).categories)
    for days in (1, 73):
        with pytest.raises(LeandnnError, match=f"a split into {days} days"):
            clicks.split_days(rows.part(0, 72), days)


# --- Criteo's file ---------------------------------------------------------------------------------------


def line(label: str = "0", integers: str = "1\t\t-2" + "\t5" * 10, hashes: str = "\t68fd1e64" * 26) -> str:
    return f"{label}\t{integers}{hashes}\n"


@pytest.mark.parametrize("name", ["train.txt", "day_0.gz"])
def test_criteo_lines_become_the_same_arrays(tmp_path: Path, name: str):
    text = line("1", hashes="\t" + "\tffffffff" * 25) + line() + line(hashes="\t00000000" * 26)[:-1]
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    log = criteo.read(path)
    assert len(log) == 3 and log.probabilities is None and log.sizes == SIZES
    assert log.labels.tolist() == [1, 0, 0]
    assert log.integers[0].tolist() == [1, clicks.MISSING, -2, *[5] * 10]
    assert log.categories.dtype == torch.int32 and log.integers.dtype == torch.int32
    assert log.categories[0].tolist() == [0, *(1 + 0xFFFFFFFF % (size - 1) for size in SIZES[1:])]
    assert log.categories[2].tolist() == [1] * 26
    assert bool((log.categories < torch.tensor(SIZES)).all())
    assert len(criteo.read(path, count=2)) == 2


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("1\t2\n", "line 3 of .* has 2 fields, expected 40 with tabs between them"),
        (line()[:-1] + "\tff\n", "line 3 of .* has 41 fields, expected 40"),
        ("\n", "line 3 of .* has 1 fields, expected 40"),
        (line("2"), r"line 3 of .* has '2' in field 1 of 40, expected a label, 0 or 1"),
        (line(""), r"has '' in field 1 of 40"),
        (line(integers="1\t1_0" + "\t5" * 11), r"has '1_0' in field 3 of 40, expected an integer of 32 bits"),
        (line(integers="9999999999" + "\t5" * 12), r"has '9999999999' in field 2 of 40"),
        (line(hashes="\t68fd1e64" * 25 + "\t0x12"), r"has '0x12' in field 40 of 40, expected a hexadecimal"),
        (line(hashes="\t-1" + "\t68fd1e64" * 25), r"has '-1' in field 15 of 40, expected a hexadecimal"),
        (line(hashes="\t68fd1e64" * 25 + "\t\xe9"), r"in field 40 of 40"),
        (line(hashes="\t68fd1e64" * 25 + "\t" + "f" * 5000), r"in field 40 of 40"),
    ],
)
def test_a_broken_line_is_named_by_its_number(tmp_path: Path, broken: str, message: str):
    path = tmp_path / "train.txt"
    path.write_text(line() + line() + broken + line())
    with pytest.raises(LeandnnError, match=message) as caught:
        criteo.read(path)
    assert len(str(caught.value)) < 400
    assert len(criteo.read(path, count=2)) == 2


def test_files_that_cannot_be_read_are_said_to_be(tmp_path: Path):
    with pytest.raises(LeandnnError, match="is not there"):
        criteo.read(tmp_path / "none.txt")
    path = tmp_path / "empty.txt"
    path.touch()
    with pytest.raises(LeandnnError, match="has 0 lines, expected at least 1"):
        criteo.read(path)
    path.write_text(line())
    with pytest.raises(LeandnnError, match="has 1 lines, expected 2"):
        criteo.read(path, count=2)
    with pytest.raises(LeandnnError, match="2 table sizes from 1 rows up were given, expected 26"):
        criteo.read(path, sizes=(1, 2))
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress((line() * 50).encode())[:-12])
    with pytest.raises(LeandnnError, match="cannot be read after line"):
        criteo.read(cut)
