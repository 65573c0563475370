"""Prepared images in memory: subsets, batches that survive a resume, augmentation, the substitute."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from leandnn import paths
from leandnn.data import cifar, sources
from leandnn.data import prepared as prepared_file
from leandnn.data.cifar import MEAN, STD, Batches, Images
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


def numbered(count: int, side: int = 32) -> Images:
    """Random images whose label is their number."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    return Images(images, torch.arange(count))


def batches(images: Images, batch_size: int = 8, **options: Any) -> Batches:
    return Batches(images, batch_size, **({"augment": True, "mean": MEAN, "std": STD, "seed": 5} | options))


def same(left: list[tuple[Tensor, Tensor]], right: list[tuple[Tensor, Tensor]]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


# --- load ------------------------------------------------------------------------------------------------


def test_a_split_comes_in_file_order_as_uint8_images_and_int64_labels(prepared: Path):
    train, test = (cifar.load("tiny", split, prepared=prepared) for split in ("train", "test"))
    assert (train.images.dtype, train.images.shape) == (torch.uint8, (30, 3, 32, 32))
    assert (train.labels.dtype, train.labels.shape) == (torch.int64, (30,))
    assert train.images[:, 0, 0, 0].tolist() == list(range(30))
    assert test.labels.tolist() == [2, 2, 1, 1, 0, 0]
    assert (len(train), len(test)) == (30, 6)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 15, 29, 30])
def test_a_subset_is_balanced_and_takes_the_first_of_each_class_in_file_order(prepared: Path, count: int):
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


# --- batches ---------------------------------------------------------------------------------------------


def reference(image: Tensor, down: int, right: int, flip: bool) -> Tensor:
    """One image, slowly: normalise, pad by four zeros, crop, flip."""
    normalised = (image.double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    height, width = image.shape[1:]
    padded = torch.zeros(3, height + 8, width + 8, dtype=torch.float64)
    padded[:, 4:-4, 4:-4] = normalised
    crop = padded[:, 4 + down : 4 + down + height, 4 + right : 4 + right + width]
    return crop.flip(2) if flip else crop


def test_every_augmented_image_is_a_padded_crop_flipped_or_not():
    images = numbered(48, side=12)
    moves = [(d, r, f) for d in range(-4, 5) for r in range(-4, 5) for f in (False, True)]
    seen = set()
    for batch, labels in batches(images, 16).epoch(0):
        for image, number in zip(batch, labels.tolist(), strict=True):
            candidates = torch.stack([reference(images.images[number], *move) for move in moves])
            distance = (candidates - image).abs().amax((1, 2, 3))
            best = int(distance.argmin())
            assert distance[best] < 1e-5
            assert torch.equal(candidates[best] == 0, image == 0), "the padding must be exactly 0"
            seen.add(moves[best])
    assert len(seen) > 30


def test_augmentation_draws_every_shift_and_flip_about_equally_often():
    # Each pixel holds its own row and column, so that the middle of a batch tells where it came from.
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    image = torch.stack([rows, columns, columns]).to(torch.uint8)
    images = Images(image.expand(4050, 3, 16, 16).contiguous(), torch.zeros(4050).long())
    batch, _ = next(batches(images, 4050, mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255)).epoch(0))
    flipped = batch[:, 1, 8, 8] < batch[:, 1, 8, 7]
    down = batch[:, 0, 8, 7].round().long() - 8
    right = batch[:, 1, 8, 7].round().long() - torch.where(flipped, 8, 7)
    moves = torch.bincount((down + 4) * 9 + right + 4, minlength=81)
    assert len(moves) == 81
    assert moves.min() > 25  # 50 expected, standard deviation 7
    assert abs(int(flipped.sum()) - 2025) < 160  # five standard deviations


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_a_resumed_epoch_equals_the_tail_of_an_unbroken_one(augment: bool, start: int):
    images = numbered(43)
    unbroken = batches(images, augment=augment)
    for epoch in range(2):
        whole = list(unbroken.epoch(epoch))
    assert same(whole[start:], list(batches(images, augment=augment).epoch(1, start)))
    assert len(whole) == len(unbroken) == 5


def test_batches_do_not_depend_on_the_global_generator_or_on_the_subset_of_steps_drawn():
    images = numbered(24)
    torch.manual_seed(1)
    first = list(batches(images).epoch(3))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    pipeline = batches(images)
    next(pipeline.epoch(2))
    assert same(first, list(pipeline.epoch(3)))
    assert torch.equal(state, torch.get_rng_state())


def test_epochs_steps_and_seeds_differ():
    images = Images(numbered(1).images.expand(24, 3, 32, 32).contiguous(), torch.arange(24))
    pipeline = batches(images)
    steps = [batch for epoch in (0, 1) for batch, _ in pipeline.epoch(epoch)]
    steps += [batch for batch, _ in batches(images, seed=6).epoch(0)]
    for at, left in enumerate(steps):
        assert not any(torch.equal(left, right) for right in steps[:at])
    orders = [torch.cat([labels for _, labels in pipeline.epoch(epoch)]).tolist() for epoch in (0, 1)]
    assert orders[0] != orders[1]


def test_the_order_of_an_epoch_is_pinned():
    order = torch.cat([labels for _, labels in batches(numbered(16)).epoch(2)])
    assert order.tolist() == [1, 11, 9, 13, 4, 8, 6, 12, 3, 10, 0, 7, 14, 5, 2, 15]


def test_an_epoch_shows_every_image_once_but_for_the_last_partial_batch():
    shown = torch.cat([labels for _, labels in batches(numbered(43), 8).epoch(0)]).tolist()
    assert len(shown) == len(set(shown)) == 40


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_batches_are_normalised_float32_in_the_memory_format_asked_for(augment: bool, channels_last: bool):
    images = numbered(16)
    pipeline = batches(images, augment=augment, channels_last=channels_last)
    plain = batches(images, augment=augment, channels_last=not channels_last)
    kind = torch.channels_last if channels_last else torch.contiguous_format
    for ours, theirs in zip(
        [*pipeline.epoch(0), *pipeline.evaluation(5)], [*plain.epoch(0), *plain.evaluation(5)], strict=True
    ):
        assert ours[0].dtype == torch.float32
        assert ours[1].dtype == torch.int64
        assert ours[0].is_contiguous(memory_format=kind)
        assert torch.equal(ours[0], theirs[0])


def test_without_augmentation_the_images_are_only_shuffled_and_normalised():
    images = numbered(16)
    for batch, labels in batches(images, augment=False).epoch(0):
        expected = torch.stack([reference(images.images[number], 0, 0, False) for number in labels])
        torch.testing.assert_close(batch, expected.float(), rtol=0, atol=1e-5)


def test_evaluation_shows_all_images_in_order_and_unaugmented():
    images = numbered(11)
    shown = list(batches(images, 4).evaluation(4))
    assert [len(labels) for _, labels in shown] == [4, 4, 3]
    assert torch.cat([labels for _, labels in shown]).tolist() == list(range(11))
    expected = torch.stack([reference(image, 0, 0, False) for image in images.images])
    torch.testing.assert_close(torch.cat([batch for batch, _ in shown]), expected.float(), rtol=0, atol=1e-5)


def test_a_batch_may_be_changed_without_changing_the_data():
    images = numbered(8)
    pipeline = batches(images, augment=False)
    for batch, _ in [*pipeline.epoch(0), *pipeline.evaluation(8)]:
        batch.zero_()
    assert next(pipeline.evaluation(8))[0].any()
    assert torch.equal(images.images, numbered(8).images)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: batches(numbered(4), 5), "batch size is 5, expected 1 to 4"),
        (lambda: batches(numbered(4), 0), "batch size is 0, expected 1 to 4"),
        (lambda: batches(numbered(4), 2, seed=-1), "seed is -1"),
        (
            lambda: batches(numbered(4), 2).epoch(0, 3),
            "epoch 0, step 3 is not in the data: an epoch has 2 steps",
        ),
        (lambda: batches(numbered(4), 2).epoch(-1), "epoch -1"),
        (lambda: list(batches(numbered(4), 2).evaluation(0)), "batch size is 0"),
    ],
)
def test_what_cannot_be_is_told_at_once_with_both_values(call: Callable[[], object], complaint: str):
    with pytest.raises(LeandnnError, match=complaint):
        call()


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


def test_synthetic_images_do_not_depend_on_how_many_are_made_and_their_classes_are_balanced():
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
