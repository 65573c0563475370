"""Batches of images in memory: they survive a resume, and show what augmentation says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from leandnn.data.cifar import MEAN, STD, Images
from leandnn.data.image_batches import STANDARD, Augmentation, Batches
from leandnn.errors import LeandnnError

FAST = Augmentation(2, "reflect", "alternating")
AUGMENTS = [None, STANDARD, FAST]


def numbered(count: int, side: int = 32) -> Images:
    """Random images whose label is their number."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    return Images(images, torch.arange(count))


def batches(images: Images, batch_size: int = 8, **options: Any) -> Batches:
    return Batches(
        images, batch_size, **({"augment": STANDARD, "mean": MEAN, "std": STD, "seed": 5} | options)
    )


def same(left: list[tuple[Tensor, Tensor]], right: list[tuple[Tensor, Tensor]]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


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


def test_augmentation_draws_shifts_and_flips_equally_often():
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


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_a_resumed_epoch_equals_the_tail_of_an_unbroken_one(augment: Augmentation | None, start: int):
    images = numbered(43)
    unbroken = batches(images, augment=augment)
    for epoch in range(2):
        whole = list(unbroken.epoch(epoch))
    assert same(whole[start:], list(batches(images, augment=augment).epoch(1, start)))
    assert len(whole) == len(unbroken) == 5


def test_batches_depend_on_no_global_state_or_earlier_steps():
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


def test_an_epoch_shows_every_image_once_but_a_partial_batch():
    shown = torch.cat([labels for _, labels in batches(numbered(43), 8).epoch(0)]).tolist()
    assert len(shown) == len(set(shown)) == 40


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_batches_are_normalised_float32_in_the_format_asked_for(
    augment: Augmentation | None, channels_last: bool
):
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


def test_without_augmentation_images_are_shuffled_and_normalised():
    images = numbered(16)
    for batch, labels in batches(images, augment=None).epoch(0):
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
    pipeline = batches(images, augment=None)
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


# --- reflected borders and alternating flips ---------------------------------------------------------------


def test_reflected_borders_repeat_all_but_the_outermost_pixels():
    images = numbered(24, side=12)
    moves = [(d, r, f) for d in range(-2, 3) for r in range(-2, 3) for f in (False, True)]
    seen = set()
    for batch, labels in batches(images, augment=FAST, mean=(0, 0, 0), std=(1 / 255,) * 3).epoch(0):
        for image, number in zip(batch, labels.tolist(), strict=True):
            padded = torch.nn.functional.pad(images.images[number].float(), (2, 2, 2, 2), mode="reflect")
            crops = {(d, r): padded[:, 2 + d : 14 + d, 2 + r : 14 + r] for d, r, _ in moves}
            fitting = [m for m in moves if torch.equal(crops[m[:2]].flip(2) if m[2] else crops[m[:2]], image)]
            assert len(fitting) == 1
            seen.add(fitting[0])
    assert len(seen) > 15


def mirrored(pipeline: Batches, epoch: int) -> Tensor:
    """Which of the images (rows of 0 to side - 1) an epoch shows mirrored, by number."""
    found = torch.zeros(len(pipeline) * pipeline.batch_size, dtype=torch.bool)
    for batch, labels in pipeline.epoch(epoch):
        found[labels] = batch[:, 0, 0, 0] > batch[:, 0, 0, -1]
    return found


def test_alternating_flips_show_the_other_side_next_epoch():
    row = torch.arange(16, dtype=torch.uint8).expand(3, 16, 16)
    images = Images(row.expand(400, 3, 16, 16).contiguous(), torch.arange(400))
    alternating = batches(images, augment=Augmentation(2, "reflect", "alternating"))
    first = mirrored(alternating, 0)
    assert 150 < int(first.sum()) < 250
    for epoch in range(1, 5):
        assert torch.equal(mirrored(alternating, epoch), first ^ (epoch % 2 == 1))
    assert not torch.equal(mirrored(batches(images, augment=FAST, seed=6), 0), first)
    random = batches(images, augment=Augmentation(2, "reflect", "random"))
    assert not torch.equal(mirrored(random, 1), ~mirrored(random, 0))


def test_without_shift_and_flip_nothing_moves():
    images = numbered(24)
    still = [
        batch for batch, _ in batches(images, augment=Augmentation(0, "reflect", "alternating")).epoch(0)
    ]
    plain = [batch for batch, _ in batches(images, augment=None).epoch(0)]
    for ours, theirs in zip(still, plain, strict=True):
        same_side = (ours == theirs).all((1, 2, 3)) | (ours.flip(3) == theirs).all((1, 2, 3))
        assert same_side.all()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Augmentation(border="black"), "^the border is 'black', expected 'mean' or 'reflect'$"),
        (lambda: Augmentation(flip="never"), "^the flip is 'never', expected 'random' or 'alternating'$"),
        (lambda: Augmentation(shift=-1), "^the shift is -1 pixels, expected 0 or more$"),
        (
            lambda: batches(numbered(8, side=4), augment=STANDARD),
            "^the shift is 4 pixels, expected less than the images' side of 4$",
        ),
    ],
)
def test_an_augmentation_that_cannot_be_is_told_with_both_values(make: Callable[[], object], complaint: str):
    with pytest.raises(LeandnnError, match=complaint):
        make()
