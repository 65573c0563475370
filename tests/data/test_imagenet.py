"""Images in folders: what is found, what a batch holds, and images that are missing or cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data import jpegs

from leandnn.data import imagenet
from leandnn.data.imagenet import Batches, Split, scan
from leandnn.errors import LeandnnError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jpegs.write(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture(scope="module")
def splits(root: Path) -> tuple[Split, Split]:
    return scan(root)


def batches(split: Split, size: int = 8, **changes: object) -> Batches:
    arguments = {"size": 16, "augment": True, "seed": 3, **changes}
    return Batches(split, size, **arguments)  # type: ignore[arg-type]


def same(a, b) -> bool:
    return all(torch.equal(x, y) and torch.equal(k, m) for (x, k), (y, m) in zip(a, b, strict=True))


def test_classes_are_folders_in_order_and_labels_their_numbers(root: Path, splits: tuple[Split, Split]):
    train, val = splits
    assert train.classes == val.classes == ("class000", "class001", "class002", "class003")
    assert (len(train.files), len(val.files)) == (64, 20)
    assert train.labels == tuple(np.repeat(range(4), 16))
    assert train.files[17] == str(root / "train" / "class001" / "0001.JPEG")
    assert list(train.files) == sorted(train.files)


def test_a_batch_depends_on_seed_epoch_and_step_alone(splits: tuple[Split, Split]):
    train, _ = splits
    first = list(batches(train).epoch(2))
    assert len(first) == len(batches(train)) == 8
    torch.manual_seed(7)
    again = batches(train, workers=2)
    assert same(again.epoch(2), first), "nor on the number of workers"
    assert same(again.epoch(2, start=5), first[5:])
    assert not same(batches(train, seed=4).epoch(2), first)
    assert not same(again.epoch(3), first)
    seen = sorted(int(label) for _, labels in first for label in labels)
    assert seen == sorted(train.labels), "every image once"


def test_reading_leaves_the_runs_generator_alone(splits: tuple[Split, Split]):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(batches(splits[0]).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_groups_processes_share_batches_as_one_accumulates(
    splits: tuple[Split, Split],
):
    train, val = splits
    alone = list(batches(train, 4).epoch(1))
    shares = [list(batches(train, 4, rank=r, world=2).epoch(1)) for r in range(2)]
    assert same([b for pair in zip(*shares, strict=True) for b in pair], alone)
    parts = [batches(val, 3, augment=False, rank=r, world=3) for r in range(3)]
    labels = torch.cat([labels for part in parts for _, labels in part.evaluation()])
    assert sorted(labels.tolist()) == sorted(val.labels)


def test_pixels_are_normalised_and_evaluation_takes_the_middle(tmp_path: Path):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        pixels = np.zeros((64, 128, 3), np.uint8)
        pixels[:, 32:96] = (200, 100, 50)  # the middle square
        Image.fromarray(pixels).save(tmp_path / split / "a" / "x.png")
    _, val = scan(tmp_path)
    ((images, labels),) = batches(val, 1, augment=False).evaluation()
    assert images.shape == (1, 3, 16, 16)
    assert images.dtype == torch.float32
    assert labels.tolist() == [0]
    mean, std = np.array(imagenet.MEAN), np.array(imagenet.STD)
    expected = (np.array([200, 100, 50]) / 255 - mean) / std
    assert np.allclose(images.numpy(), expected.reshape(1, 3, 1, 1), atol=0.02)


def test_training_crops_move_and_flip(splits: tuple[Split, Split]):
    one = Split("train", ("a",), splits[0].files[:1], (0,))
    seen = {tuple(next(batches(one, 1).epoch(e))[0].flatten()[:6].tolist()) for e in range(8)}
    assert len(seen) == 8


@pytest.mark.parametrize("broken", ["truncated", "text", "empty", "gone"])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_or_left_out_and_counted(
    tmp_path: Path, broken: str, workers: int, capfd: pytest.CaptureFixture[str]
):
    jpegs.write(tmp_path, classes=2, train=4, val=1)
    train, _ = scan(tmp_path)
    victim = Path(train.files[3])
    if broken == "gone":
        victim.unlink()
    else:
        content = {"truncated": victim.read_bytes()[:300], "text": b"not an image", "empty": b""}[broken]
        victim.write_bytes(content)
    with pytest.raises(LeandnnError, match=r"class000/0003\.JPEG cannot be read \(\w+.*--unreadable skip"):
        list(batches(train, 2, workers=workers).epoch(0))
    skipping = batches(train, 2, workers=workers, unreadable="skip")
    for epoch in range(2):
        assert sorted(len(labels) for _, labels in skipping.epoch(epoch)) == [1, 2, 2, 2]
    assert list(skipping.failures) == [str(victim)]
    assert capfd.readouterr().err.count(f"left out: {victim} cannot be read") == 1


def test_a_batch_of_nothing_but_unreadable_images_is_refused(tmp_path: Path):
    jpegs.write(tmp_path, classes=1, train=2, val=2)
    train, val = scan(tmp_path)
    for file in (*train.files, *val.files):
        Path(file).write_bytes(b"")
    with pytest.raises(LeandnnError, match=r"none of the 2 images of a batch can be read, such as .*JPEG"):
        list(batches(train, 2, unreadable="skip").epoch(0))
    assert list(batches(val, 2, unreadable="skip", augment=False).evaluation()) == []


def test_a_folder_that_is_not_there_says_what_to_put_where(tmp_path: Path):
    with pytest.raises(
        LeandnnError, match=r"train cannot be read \(No such file.*image-net\.org.*1000 class"
    ):
        scan(tmp_path)
    (tmp_path / "train" / "a").mkdir(parents=True)
    with pytest.raises(LeandnnError, match="train holds no images, expected .*<class>/<image>.JPEG"):
        scan(tmp_path)


def test_classes_without_images_and_different_classes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    jpegs.write(tmp_path, classes=3, train=2, val=1)
    (tmp_path / "val" / "class002" / "0000.JPEG").unlink()
    with pytest.raises(
        LeandnnError, match=r"val is not complete: class class002 has no images; .*--missing skip"
    ):
        scan(tmp_path)
    _, val = scan(tmp_path, missing="skip")
    assert (len(val.files), len(val.classes)) == (2, 3)
    assert "class class002 has no images" in capsys.readouterr().err
    (tmp_path / "val" / "class002").rmdir()
    with pytest.raises(LeandnnError, match="3 classes in train and 2 in val.*such as class002"):
        scan(tmp_path, missing="skip")


def test_an_imagenet_with_too_few_images_is_counted(tmp_path: Path):
    for i in range(1000):
        for split in ("train", "val"):
            folder = tmp_path / split / f"n{i:08d}"
            folder.mkdir(parents=True)
            (folder / "x.JPEG").write_bytes(b"")
    with pytest.raises(LeandnnError, match="train is not complete: 1000 images, expected 1281167"):
        scan(tmp_path)
    assert len(scan(tmp_path, missing="skip")[0].files) == 1000


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"world": 33, "rank": 0, "size": 2}, "33 batches of 2 images .* 64 images"),
        ({"rank": 2, "world": 2}, "process 2 of 2"),
    ],
)
def test_impossible_batches_are_refused(splits: tuple[Split, Split], changes: dict[str, int], match: str):
    with pytest.raises(LeandnnError, match=match):
        batches(splits[0], changes.pop("size", 8), **changes)


def test_an_epoch_out_of_range_is_refused(splits: tuple[Split, Split]):
    with pytest.raises(LeandnnError, match="step 9 is not in the data: an epoch has 8 steps"):
        batches(splits[0]).epoch(0, 9)
