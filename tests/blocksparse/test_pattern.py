"""Patterns: what the constructors make, what they refuse, the bytes of their indices, and round trips."""

from __future__ import annotations

import copy
import json
import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leandnn.blocksparse import Pattern, sampling
from leandnn.errors import LeandnnError
from leandnn.kernels.panels.format import Graph

Size = tuple[int, int]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def masks(draw: st.DrawFn, rows: int, columns: int) -> np.ndarray:
    bits = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    return np.array(bits, dtype=bool).reshape(rows, columns)


sizes = st.tuples(st.integers(1, 4), st.integers(1, 4))


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    kind = draw(st.sampled_from(["unstructured", "block", "hierarchical", "rbgp4"]))
    block, mask = draw(sizes), draw(sizes.flatmap(lambda s: masks(*s)))
    if kind == "unstructured":
        return Pattern.unstructured(mask)
    if kind == "block":
        # 1 × 1 blocks are a block pattern too: the kind is what the maker calls it.
        return Pattern.blocks(mask, block)
    if kind == "hierarchical":
        middle, coarse = draw(sizes), draw(sizes)
        fine = draw(masks(mask.shape[0] * middle[0] * coarse[0], mask.shape[1] * middle[1] * coarse[1]))
        levels = [block]
        for factor in (middle, coarse):
            levels.insert(0, (levels[0][0] * factor[0], levels[0][1] * factor[1]))
        shape = [fine.shape[i] * block[i] - draw(st.integers(0, block[i] - 1)) for i in (0, 1)]
        return Pattern.hierarchical(fine, tuple(levels), (shape[0], shape[1]))
    inner = draw(sizes.flatmap(lambda s: masks(*s)))
    return Pattern.rbgp4(Graph.from_mask(mask), draw(sizes), Graph.from_mask(inner), block)


@settings(deadline=None)
@given(patterns())
def test_numbers_and_digest_agree_with_the_mask(pattern: Pattern):
    mask = pattern.mask()
    assert mask.dtype == torch.bool and tuple(mask.shape) == pattern.shape
    assert pattern.nnz == int(mask.sum())
    assert pattern.density == pytest.approx(1 - pattern.sparsity)
    assert pattern.density == pytest.approx(mask.float().mean().item())
    expected = np.ones((1, 1), dtype=bool)
    for factor in pattern.factors:
        expected = np.kron(expected, factor.mask())
    assert np.array_equal(mask.numpy(), expected)
    density = np.prod([level.density for level in pattern.levels])
    assert density == pytest.approx(pattern.density)


@settings(deadline=None)
@given(patterns())
def test_values_go_to_their_places_and_back(pattern: Pattern):
    values = torch.arange(1.0, pattern.nnz + 1)
    dense = pattern.scatter(values)
    assert torch.equal(dense != 0, pattern.mask())
    assert torch.equal(pattern.gather(dense), values)


@settings(deadline=None)
@given(patterns())
def test_round_trips_give_an_equal_pattern(pattern: Pattern):
    for found in (
        Pattern.from_state(pattern.to_state()),
        pickle.loads(pickle.dumps(pattern)),
        pattern.transpose().transpose(),
    ):
        assert found == pattern
        assert hash(found) == hash(pattern)
        assert torch.equal(found.places(), pattern.places())
    assert torch.equal(pattern.transpose().mask(), pattern.mask().t())
    assert copy.deepcopy(pattern) is pattern


@settings(max_examples=25, deadline=None)
@given(pattern=patterns())
def test_files_give_an_equal_pattern(pattern: Pattern, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("pattern") / "p.safetensors"
    pattern.save(path)
    assert Pattern.load(path) == pattern
    assert [p.name for p in path.parent.iterdir()] == ["p.safetensors"]


@settings(deadline=None)
@given(patterns(), patterns())
def test_equality_is_that_of_kind_sizes_and_edges(a: Pattern, b: Pattern):
    same = (
        a.kind == b.kind
        and a.coarse == b.coarse
        and (a.panels.repeat, a.panels.block) == (b.panels.repeat, b.panels.block)
        and all(
            g.mask().shape == h.mask().shape and np.array_equal(g.mask(), h.mask())
            for g, h in zip(a.factors, b.factors, strict=True)
        )
    )
    assert (a == b) == same
    assert (a.digest() == b.digest()) == same
    assert a != "another thing"


def test_the_digest_is_the_same_on_every_machine():
    pattern = Pattern.blocks(np.eye(2, dtype=bool), (4, 4))
    assert pattern.digest() == "af0cb199dbac4e0a0482ca9adbde7c9957f6d954113df37efffeefb0f9d8c222"


@settings(deadline=None)
@given(sizes.flatmap(lambda s: masks(*s)), sizes)
def test_a_mask_made_of_blocks_is_taken_and_any_other_is_refused(block_mask: np.ndarray, block: Size):
    mask = np.kron(block_mask, np.ones(block, dtype=bool))
    pattern = Pattern.from_mask(torch.from_numpy(mask), block)
    assert np.array_equal(pattern.mask().numpy(), mask)
    assert pattern.kind == ("unstructured" if block == (1, 1) else "block")
    if block != (1, 1):
        mask[-1, -1] = not mask[-1, -1]
        with pytest.raises(ValueError, match="not made of blocks"):
            Pattern.from_mask(mask, block)


def test_a_block_that_is_neither_full_nor_empty_is_named():
    mask = np.zeros((8, 8), dtype=bool)
    mask[4, 6] = True
    with pytest.raises(ValueError, match=r"block at row 4, column 4 has 1 of 16 entries"):
        Pattern.from_mask(mask, (4, 4))


def test_index_bytes_by_hand():
    """The rule is 2 bytes an index or pointer below 65536, else 4."""
    mask = np.zeros((8, 16), dtype=bool)
    mask[0, :8] = mask[5, 3] = True  # 9 entries
    unstructured = Pattern.unstructured(mask)
    assert unstructured.index_nbytes == unstructured.csr_index_nbytes == 2 * (8 + 1) + 2 * 9

    blocks = Pattern.blocks(mask, (4, 4))  # of 32 × 64: 9 blocks of 16
    assert blocks.index_nbytes == 2 * (8 + 1) + 2 * 9
    assert blocks.csr_index_nbytes == 2 * (32 + 1) + 2 * 9 * 16

    # 16 × 16 blocks over the 4 × 4 ones: a grid of 2 × 4 with blocks (0, 0), (0, 1) and (1, 0).
    nested = Pattern.hierarchical(mask, ((16, 16), (4, 4)))
    assert [level.blocks for level in nested.levels] == [3, 9]
    assert [level.density for level in nested.levels] == [3 / 8, 9 / 48]
    assert [level.index_nbytes for level in nested.levels] == [2 * (2 + 1) + 2 * 3, 2 * (3 + 1) + 2 * 9]

    # G_o with one edge a vertex, G_i with two: 2 + 4 edges of 2 bytes, whatever they are repeated to.
    g_o, g_i = Graph.from_mask(np.eye(2, dtype=bool)), Graph.complete(2, 2)
    product = Pattern.rbgp4(g_o, (8, 1), g_i, (4, 4))
    assert product.index_nbytes == 2 * 2 + 2 * 4
    assert [level.blocks for level in product.levels] == [2, 2 * 8 * 4]
    assert product.csr_index_nbytes == 2 * (product.shape[0] + 1) + 2 * product.nnz

    # Degrees that differ have to be stored too.
    uneven = Graph.from_mask(np.array([[True, True], [True, False]]))
    assert Pattern.rbgp4(uneven, (8, 1), g_i, (4, 4)).index_nbytes == 2 * (2 + 1) + 2 * 3 + 2 * 4


def test_overhanging_blocks_are_cut_off_and_count_what_is_left():
    # 30 × 10 in blocks of 16 × 8, of 4 × 4: a grid of 2 × 2 of 8 × 3, the last rows 2 high, the last columns 2 wide.
    mask = np.zeros((8, 3), bool)
    mask[0, 0] = mask[7, 0] = mask[7, 2] = True
    pattern = Pattern.hierarchical(mask, ((16, 8), (4, 4)), (30, 10))
    assert pattern.shape == (30, 10) and pattern.block == (2, 2) and pattern.cut
    assert str(pattern) == "hierarchical 30×10, 90.67% sparse, 16×8 blocks, 4×4 blocks"
    expected = np.kron(mask, np.ones((4, 4), bool))[:30, :10]
    assert np.array_equal(pattern.mask().numpy(), expected)
    assert pattern.nnz == 16 + 2 * 4 + 2 * 2
    coarse, fine = pattern.levels
    assert (coarse.block, fine.block) == ((16, 8), (4, 4))
    assert (coarse.blocks, fine.blocks) == (3, 3)
    own = 16 * 8 + 14 * 8 + 14 * 2  # elements of the three large blocks
    assert (coarse.density, fine.density) == (own / 300, 28 / own)
    assert coarse.index_nbytes == 2 * (2 + 1) + 2 * 3 and fine.index_nbytes == 2 * (3 + 1) + 2 * 3

    whole = Pattern.hierarchical(mask, ((16, 8), (4, 4)), (32, 12))  # only the large blocks overhang
    assert whole.shape == (32, 12) and whole.block == (4, 4) and not whole.cut
    assert [level.blocks for level in whole.levels] == [3, 3]
    assert Pattern.hierarchical(mask, ((16, 8), (4, 4))) == whole

    one = Pattern.hierarchical(mask, ((4, 4),), (30, 10))
    assert np.array_equal(one.mask().numpy(), expected)
    assert [level.block for level in one.levels] == [(4, 4)]


def test_large_patterns_take_four_bytes_where_two_do_not_reach():
    wide = np.zeros((1, 1 << 17), dtype=bool)
    wide[0, -1] = True
    assert Pattern.unstructured(wide).index_nbytes == 2 * 2 + 4
    many = np.ones((256, 256), dtype=bool)  # 65536 entries: the last pointer needs 17 bits
    assert Pattern.unstructured(many).index_nbytes == 4 * 257 + 2 * 65536


def test_an_rbgp4_index_is_a_thousandth_of_csr_at_papers_size():
    pattern = Pattern.random_product(4096, 4096, 0.75, (4, 1), (4, 4), generator())
    assert pattern.index_nbytes == 2 * (16 * 16 + 16 * 16)  # two graphs of 16 × 32, degree 16
    assert pattern.csr_index_nbytes == 4 * 4097 + 2 * pattern.nnz
    assert pattern.csr_index_nbytes > 8000 * pattern.index_nbytes


@pytest.mark.parametrize("sparsity", [0.5, 0.75, 0.875, 0.9375])
@pytest.mark.parametrize("shape", [(1024, 1024), (512, 4608)])
def test_random_patterns_have_the_sparsity_asked_for(shape: Size, sparsity: float):
    for pattern in (
        Pattern.random_unstructured(*shape, sparsity, generator()),
        Pattern.random_blocks(*shape, (4, 4), sparsity, generator()),
        Pattern.random_product(*shape, sparsity, (4, 1), (4, 4), generator()),
    ):
        assert pattern.shape == shape
        assert pattern.sparsity == sparsity
        if pattern.kind != "unstructured":  # the same count in every row
            rows = np.bincount(pattern.panels.coordinates()[0], minlength=shape[0])
            assert set(rows) == {round(shape[1] * (1 - sparsity))}
        if pattern.kind == "rbgp4":
            for graph in (pattern.panels.outer, pattern.panels.inner):
                assert np.ptp(graph.mask().sum(0)) == np.ptp(graph.mask().sum(1)) == 0


def test_random_patterns_follow_their_seed():
    def make(seed: int) -> list[Pattern]:
        g = generator(seed)
        return [
            Pattern.random_unstructured(16, 16, 0.5, g),
            Pattern.random_blocks(16, 16, (2, 2), 0.5, g),
            Pattern.random_product(64, 64, 0.75, (2, 1), (2, 2), g),
        ]

    assert make(1) == make(1)
    assert all(a != b for a, b in zip(make(1), make(2), strict=True))


def test_a_sparsity_that_no_biregular_graphs_give_is_refused():
    with pytest.raises(ValueError, match=r"no product of two biregular graphs is 4 × 4 of density 0.3"):
        Pattern.random_product(16, 16, 0.7, (1, 1), (4, 4), generator())
    with pytest.raises(ValueError, match="no biregular graph has 4 × 6 vertices and 6 edges"):
        sampling.biregular(4, 6, 6, generator())


FULL = np.ones((4, 4), dtype=bool)
ONE = Graph.complete(1, 1)
REFUSED = {
    "numbers": (lambda: Pattern.unstructured(torch.ones(4, 4)), "float32 of shape .*expected bool"),
    "three dimensions": (lambda: Pattern.unstructured(np.ones((2, 2, 2), bool)), "two dimensions"),
    "empty blocks": (lambda: Pattern.blocks(FULL, (0, 4)), "expected two sizes of at least 1"),
    "one level": (lambda: Pattern.hierarchical(FULL, ((4, 4),)), "expected two levels or more"),
    "uneven levels": (
        lambda: Pattern.hierarchical(FULL, ((4, 4), (2, 2), (4, 1))),
        r"\(4, 1\) do not divide \(2, 2\)",
    ),
    "a mask that does not cover": (
        lambda: Pattern.hierarchical(FULL, ((8, 8), (4, 4)), (13, 17)),
        r"a mask of \(4, 4\) blocks of \(4, 4\) does not cover \(13, 17\)",
    ),
    "no cut blocks": (
        lambda: Pattern("hierarchical", Pattern.blocks(FULL, (2, 2)).panels, ((4, 4),), cut=True),
        r"\(2, 2\) are not the largest blocks of \(8, 8\) and \(\(4, 4\),\)",
    ),
    "a cut block pattern": (
        lambda: Pattern("block", Pattern.blocks(FULL, (2, 2)).panels, cut=True),
        r"\(2, 2\) are not the largest blocks",
    ),
    "a mask of another size": (lambda: Pattern.from_mask(FULL, (3, 4)), r"\(3, 4\) do not divide \(4, 4\)"),
    "sparsity one": (lambda: Pattern.random_unstructured(4, 4, 1.0, generator()), "sparsity is 1.0"),
    "sparsity below": (lambda: Pattern.random_blocks(4, 4, (1, 1), -0.1, generator()), "sparsity is -0.1"),
    "random blocks": (lambda: Pattern.random_blocks(4, 4, (3, 1), 0.5, generator()), "do not divide"),
    "another kind": (lambda: Pattern("dense", Pattern.unstructured(FULL).panels), "'dense' is unknown"),
    "tiles that are not rbgp4": (
        lambda: Pattern("block", Pattern.rbgp4(Graph.complete(2, 2), (1, 1), ONE, (1, 1)).panels),
        "G_o of 2 × 2",
    ),
    "unstructured blocks": (
        lambda: Pattern("unstructured", Pattern.blocks(FULL, (2, 2)).panels),
        r"expected \(1, 1\)",
    ),
    "levels of no hierarchy": (
        lambda: Pattern("block", Pattern.blocks(FULL, (2, 2)).panels, ((4, 4),)),
        "they are for hierarchical",
    ),
    "a weight of another shape": (
        lambda: Pattern.unstructured(FULL).gather(torch.zeros(4, 5)),
        r"shape \(4, 5\), the pattern is unstructured 4×4",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(case: str):
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        make()


def test_a_pattern_says_what_it_is():
    mask = np.eye(4, dtype=bool)
    assert str(Pattern.unstructured(mask)) == "unstructured 4×4, 75.00% sparse"
    nested = Pattern.hierarchical(mask, ((8, 8), (4, 4)))
    assert str(nested) == "hierarchical 16×16, 75.00% sparse, 8×8 blocks, 4×4 blocks"


# Files


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Pattern, Path]:
    pattern = Pattern.random_product(64, 64, 0.75, (2, 1), (2, 2), generator())
    pattern.save(tmp_path / "p.safetensors")
    return pattern, tmp_path / "p.safetensors"


def rewrite(path: Path, **changes: object) -> None:
    """The file with other header fields."""
    with safetensors.safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["leandnn.pattern"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata = {"leandnn.pattern": json.dumps({**header, **changes})}
    path.write_bytes(safetensors.torch.save(tensors, metadata=metadata))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "format version 2, this leandnn reads version 1"),
        ({"kind": "block"}, "G_o of"),
        ({"kind": ["rbgp4"]}, "unknown"),
        ({"block": [4, 1]}, "SHA-256 is [0-9a-f]{12}…, expected [0-9a-f]{12}…"),
        ({"block": [2.0, 2]}, "SHA-256|wrong type"),
        ({"block": 4}, "wrong type"),
        ({"coarse": [[4]], "kind": "hierarchical"}, "p.safetensors is no pattern"),
        ({"inner_right": "8"}, "wrong type"),
        ({"inner_right": 1}, "an edge ends at"),
        ({"outer_right": 1 << 40}, "expected sides below 2"),
        ({"sha256": 7}, "expected 7"),
    ],
)
def test_a_file_with_another_header_is_refused_in_a_sentence(
    saved: tuple[Pattern, Path], changes: dict[str, object], message: str
):
    _, path = saved
    rewrite(path, **changes)
    with pytest.raises(LeandnnError, match=message):
        Pattern.load(path)


def test_a_file_cut_or_changed_anywhere_is_refused(saved: tuple[Pattern, Path]):
    pattern, path = saved
    content = path.read_bytes()
    for end in range(0, len(content), 37):
        path.write_bytes(content[:end])
        with pytest.raises(LeandnnError, match="p.safetensors is no pattern that can be read"):
            Pattern.load(path)
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x11]) + content[place + 1 :])
        with suppress(LeandnnError):  # a changed space in the header may be harmless
            assert Pattern.load(path) == pattern


def test_other_files_are_refused(tmp_path: Path):
    with pytest.raises(LeandnnError, match="No such file"):
        Pattern.load(tmp_path / "missing.safetensors")
    other = tmp_path / "weights.safetensors"
    other.write_bytes(safetensors.torch.save({"weight": torch.zeros(3)}))
    with pytest.raises(LeandnnError, match="header is '', expected JSON with a version"):
        Pattern.load(other)
    deep = {"leandnn.pattern": "[" * 100_000}
    other.write_bytes(safetensors.torch.save({"weight": torch.zeros(3)}, metadata=deep))
    with pytest.raises(LeandnnError, match="expected JSON with a version"):
        Pattern.load(other)


def test_a_failed_write_leaves_the_old_file(saved: tuple[Pattern, Path], monkeypatch: pytest.MonkeyPatch):
    pattern, path = saved

    def fail(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save", fail)
    with pytest.raises(LeandnnError, match="No space left on device"):
        Pattern.unstructured(FULL).save(path)
    assert Pattern.load(path) == pattern
    assert [p.name for p in path.parent.iterdir()] == ["p.safetensors"]


def test_a_state_that_is_no_pattern_is_refused():
    with pytest.raises(ValueError, match="header is ''"):
        Pattern.from_state({})
    state = Pattern.unstructured(FULL).to_state()
    del state["inner_idx"]
    with pytest.raises(ValueError, match="inner_idx"):
        Pattern.from_state(state)
