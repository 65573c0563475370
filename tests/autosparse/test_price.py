"""The price of an ImageNet run: its arithmetic by hand, and that it is of the updates that imagenet.py makes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data import jpegs

from leandnn.autosparse import price
from leandnn.autosparse.price import Price


def said(data: Path, *more: str) -> list[str]:
    return [
        "--net", "small_mobilenet", "--size", "32", "--batch", "8", "--amp", "none", "--device", "cpu",
        "--updates", "2", "--data", str(data), *more,
    ]  # fmt: skip


def test_hours_and_readers_by_hand():
    one = Price(images=3_600_000, batch=100, devices=1, update_s=0.2, read_s=0.01)
    assert one.hours == pytest.approx(2)  # 36000 updates of 0.2 s
    assert one.readers == pytest.approx(5)  # 1 s of reading for 0.2 s of training
    four = Price(images=3_600_000, batch=100, devices=4, update_s=0.1, read_s=0.01)
    assert four.hours == pytest.approx(4)  # 1 h on four
    assert four.readers == pytest.approx(2.5)
    assert Price(1, 1, 1, 1.0, None).readers is None


def test_updates_are_timed_and_images_read_where_there_are_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    found = price.measure(price.parser().parse_args(said(tmp_path)))
    assert (found.images, found.batch, found.read_s) == (100 * 1_281_167, 8, None)
    assert found.update_s > 0
    jpegs.write(tmp_path, classes=2, train=4, val=2)
    assert price.main(said(tmp_path, "--accumulate", "2")) == 0
    text = capsys.readouterr().out
    assert "small_mobilenet-autosparse: 128.1 M images, 16,014,588 updates of 8" in text
    assert "device hours without waiting" in text
    assert "images/s a process" in text


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (("--updates", "0"), "0 updates of 8 images in 1 parts"),
        (("--devices", "3"), "2 updates of 8 images in 3 parts"),
        (("--arm", "str"), "STR's settings for small_mobilenet are not known"),
        (("--device", "cuda"), "device is 'cuda', but torch finds 0 GPUs here, expected one of them, or cpu"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    tmp_path: Path,
    more: tuple[str, ...],
    match: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert price.main(said(tmp_path, *more)) == 1
    error = capsys.readouterr().err
    assert match in error
    assert error.count("\n") == 1
