"""Prepared images in memory: subsets, what is held out, the substitute."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from leandnn import paths
from leandnn.data import cifar, sources
from leandnn.data import prepared as prepared_file
from leandnn.data.cifar import Images
from leandnn.errors import LeandnnError

TINY = replace(
    sources.DATASETS["cifar10"], name="tiny", classes=3, train=30, test=6, digests={}, package=None
)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the prepared file of a data set "tiny"; the first byte of an image is its number."""
    monkeypatch.setitem(sources.DATASETS, "tiny", TINY)
    tensors = {name: np.zeros(shape, np.uint8) for name, shape in TINY.shapes.items()}
    for split, count in (("train", 30), ("test", 6)):
        tensors[f"{split}_images"][:, 0, 0, 0] = np.arange(count)
        tensors[f"{split}_labels"][:] = np.sort(np.arange(count) % 3)[::-1]
    prepared_file.write_prepared(tmp_path / "tiny.safetensors", TINY, tensors)
    return tmp_path


# --- load ------------------------------------------------------------------------------------------------


def test_a_split_is_in_file_order_as_uint8_and_int64(prepared: Path):
    train, test = (cifar.load("tiny", split, prepared=prepared) for split in ("train", "test"))
    assert (train.images.dtype, train.images.shape) == (torch.uint8, (30, 3, 32, 32))
    assert (train.labels.dtype, train.labels.shape) == (torch.int64, (30,))
    assert train.images[:, 0, 0, 0].tolist() == list(range(30))
    assert test.labels.tolist() == [2, 2, 1, 1, 0, 0]
    assert (len(train), len(test)) == (30, 6)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 15, 29, 30])
def test_a_subset_takes_the_first_of_each_class_alike(prepared: Path, count: int):
    whole = cifar.load("tiny", prepared=prepared)
    part = cifar.load("tiny", count=count, prepared=prepared)
    expected = []
    for label in range(3):
        positions = (whole.labels == label).nonzero().flatten().tolist()
        expected += positions[: count // 3 + (label < count % 3)]
    assert part.images[:, 0, 0, 0].tolist() == sorted(expected)
    assert torch.equal(part.labels, whole.labels[sorted(expected)])
    assert len(part) == count


@pytest.mark.parametrize("count", [-1, 0, 31])
def test_a_count_out_of_range_is_told_with_both_values(prepared: Path, count: int):
    with pytest.raises(
        LeandnnError, match=f"^{count} images of tiny train were asked for, expected 1 to 30$"
    ):
        cifar.load("tiny", count=count, prepared=prepared)


def test_unknown_names_and_splits_are_errors(prepared: Path):
    with pytest.raises(LeandnnError, match="no data set 'mnist', only cifar10, cifar100"):
        cifar.load("mnist", prepared=prepared)
    with pytest.raises(LeandnnError, match="no split 'valid', only 'train' and 'test'"):
        cifar.load("tiny", "valid", prepared=prepared)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda data: data[:-1], "bytes, expected"),
        (lambda data: b"", "is damaged"),
        (
            lambda data: data.replace(b'"shape":[30]', b'"shape":[31]'),
            r"\[31\].* for train_labels, expected .*\[30\]",
        ),
        (lambda data: data[:-1] + b"\x09", "test_labels reach 9, expected at most 2"),
    ],
)
def test_a_damaged_file_is_an_error_that_ends_with_the_command(
    prepared: Path, damage: Callable[[bytes], bytes], complaint: str
):
    path = prepared / "tiny.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LeandnnError, match=complaint + ".*run `leandnn data fetch tiny`$"):
        cifar.load("tiny", "test", prepared=prepared)


def test_labels_too_unequal_for_a_balanced_subset_are_an_error(prepared: Path):
    path = prepared / "tiny.safetensors"
    path.write_bytes(path.read_bytes()[:-6] + b"\0\0\0\0\0\1")
    with pytest.raises(
        LeandnnError, match="too few images of some class for 6 balanced ones of test, found 3"
    ):
        cifar.load("tiny", "test", count=6, prepared=prepared)


def test_a_missing_file_is_an_error_that_ends_with_the_command(tmp_path: Path):
    with pytest.raises(LeandnnError, match=r"is missing: run `leandnn data fetch cifar10`$"):
        cifar.load(prepared=tmp_path)


# --- the real data ---------------------------------------------------------------------------------------


def real(name: str) -> None:
    if not (paths.PREPARED / f"{name}.safetensors").exists():
        pytest.skip(f"NOT CHECKED against the real {name}, which is absent: run `leandnn data fetch {name}`")


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [("cifar10", cifar.MEAN, cifar.STD), ("cifar100", cifar.CIFAR100_MEAN, cifar.CIFAR100_STD)],
)
def test_mean_and_std_are_those_of_the_training_pixels(name: str, mean: cifar.Triple, std: cifar.Triple):
    real(name)
    pixels = cifar.load(name).images
    levels = np.arange(256)
    for channel in range(3):
        # Sums of integers, hence exact.
        counts = torch.bincount(pixels[:, channel].reshape(-1), minlength=256).numpy()
        total, squares, number = int(counts @ levels), int(counts @ levels**2), int(counts.sum())
        assert round(total / number / 255, 8) == mean[channel]
        assert round((squares * number - total**2) ** 0.5 / number / 255, 8) == std[channel]


def test_the_real_data_has_its_digests_and_its_balanced_subsets():
    real("cifar10")
    sources.verify("cifar10")
    part = cifar.load(count=1003)
    assert torch.bincount(part.labels).tolist() == [101] * 3 + [100] * 7
    assert cifar.load("cifar10", "test").labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]


# --- what is held out ------------------------------------------------------------------------------------


def numbered(count: int, classes: int) -> cifar.Images:
    """Images that hold their number, in classes in turn."""
    numbers = torch.arange(count)
    images = numbers.to(torch.uint8)[:, None, None, None].expand(count, 3, 2, 2).contiguous()
    return cifar.Images(images, numbers % classes)


def test_held_out_images_are_of_every_class_and_do_not_train():
    whole = numbered(200, 4)
    train, held = cifar.held_out(whole, 0.1)
    assert torch.bincount(held.labels).tolist() == [5] * 4
    assert torch.bincount(train.labels).tolist() == [45] * 4
    left, right = train.images[:, 0, 0, 0].tolist(), held.images[:, 0, 0, 0].tolist()
    assert sorted(left + right) == list(range(200))
    assert left == sorted(left) and right == sorted(right), "in the order they came in"
    assert torch.equal(held.labels, torch.tensor(right) % 4)


def test_held_out_images_depend_on_the_seed_alone():
    whole = numbered(200, 4)
    again = [cifar.held_out(whole, 0.1, seed)[1].images[:, 0, 0, 0].tolist() for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    cifar.held_out(whole, 0.5)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, float("nan")])
def test_a_validation_share_that_leaves_nothing_is_refused(share: float):
    with pytest.raises(
        LeandnnError, match=f"^the validation share is {share}, expected more than 0 and less than 1$"
    ):
        cifar.held_out(numbered(20, 2), share)


def test_a_validation_share_too_small_for_a_class_is_refused():
    with pytest.raises(
        LeandnnError, match="^the validation share 0.01 takes 0 of the 10 images of class 0, expected 1 to 9$"
    ):
        cifar.held_out(numbered(20, 2), 0.01)


def test_reading_the_test_set_alone_is_logged(prepared: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO", "leandnn.data.cifar"):
        cifar.held_out(cifar.load("tiny", prepared=prepared), 0.5)
        assert not caplog.messages
        cifar.load("tiny", "test", prepared=prepared)
    assert caplog.messages == ["the test images of tiny are read"]


# --- the substitute --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "seed", "digest"),
    [
        ("train", 0, "e6fbd1b848ae36b067cbe62d3670838c861c79086373de4edfea27163b6229d5"),
        ("test", 7, "4b50854d0f6bd39c0d5ac0be347b9b3d61c98e7a8684fc2a3a4e899d7480e16c"),
    ],
)
def test_synthetic_images_are_the_same_bytes_everywhere(split: str, seed: int, digest: str):
    made = cifar.synthetic(split, 1100, seed)  # more than one block
    assert (made.images.dtype, made.images.shape) == (torch.uint8, (1100, 3, 32, 32))
    assert hashlib.sha256(made.images.numpy().tobytes()).hexdigest() == digest


def test_synthetic_images_are_balanced_and_keep_among_more():
    few, many = (cifar.synthetic("train", count) for count in (30, 1500))
    assert torch.equal(few.images, many.images[:30])
    assert torch.bincount(many.labels).tolist() == [150] * 10
    assert many.labels.dtype == torch.int64


def test_synthetic_splits_and_seeds_share_no_image():
    made = [cifar.synthetic("train", 50), cifar.synthetic("test", 50), cifar.synthetic("train", 50, 1)]
    rows = torch.cat([images.images.view(50, -1) for images in made])
    assert len(rows.unique(dim=0)) == 150


def test_synthetic_classes_can_be_told_apart_by_their_textures():
    """A power spectrum per channel, averaged per class, names most test images; chance is one in ten."""

    def spectra(images: Images) -> Tensor:
        pixels = images.images.float()
        opponents = torch.stack([2 * pixels[:, 0] - pixels[:, 1] - pixels[:, 2],
                                 2 * pixels[:, 2] - pixels[:, 0] - pixels[:, 1]], 1)  # fmt: skip
        power = torch.fft.fft2(opponents - opponents.mean((2, 3), keepdim=True)).abs()
        folded = power + power.flip(3).roll(1, 3)  # a grating and its mirror image are one class
        return torch.nn.functional.normalize(folded.flatten(1))

    train, test = cifar.synthetic("train", 1000), cifar.synthetic("test", 300)
    known = spectra(train)
    centres = torch.stack([known[train.labels == label].mean(0) for label in range(10)])
    guesses = (spectra(test) @ centres.T).argmax(1)
    assert (guesses == test.labels).float().mean() > 0.8


def test_synthetic_refuses_what_it_cannot_make():
    with pytest.raises(LeandnnError, match="0 synthetic images from seed 0"):
        cifar.synthetic("train", 0)
    with pytest.raises(LeandnnError, match="1 synthetic images from seed -1"):
        cifar.synthetic("train", 1, -1)
    with pytest.raises(LeandnnError, match="no split 'all'"):
        cifar.synthetic("all", 1)
