"""`leandnn huffman`: from a checkpoint to a file, what is in it, and what it says of images."""

from __future__ import annotations

import argparse
import copy
import json
import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from leandnn.cli import huffman
from leandnn.cli.main import main
from leandnn.huffman import BatchPlan, load
from leandnn.huffman.images import read
from leandnn.machine import libraries

ARCH = ("--arch", "squeezenet1_1", "--classes", "6")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    libraries.torchvision_operators()
    import torchvision

    torch.manual_seed(0)
    return torchvision.models.squeezenet1_1(num_classes=6).eval()


@pytest.fixture(scope="module")
def compressed(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("huffman")
    save_file(net.state_dict(), folder / "in.safetensors")
    density = ["--density", "0.5", "--bits", "8"]
    assert (
        main(["huffman", "compress", str(folder / "in.safetensors"), str(folder / "m.lhuf"), *ARCH, *density])
        == 0
    )
    return folder / "m.lhuf"


def test_a_checkpoint_becomes_a_file_that_loads_alone(compressed: Path, net: nn.Module):
    model = load(compressed)
    x = torch.randn(2, 3, 64, 64)
    same = copy.deepcopy(net)
    for name, layer in model.layers().items():
        own = same.get_submodule(name)
        kept = layer.dense_weight().view_as(own.weight)
        # What was kept is near what was there: 255 shared values span a layer's weights.
        assert ((kept - own.weight)[kept != 0].abs() < (own.weight.max() - own.weight.min()) / 254).all()
        own.weight.data.copy_(kept)
    with torch.no_grad():
        torch.testing.assert_close(model(x), same(x))
    assert [own.density for own in model.bits()] == pytest.approx([0.5] * 26, abs=0.01)


def test_a_pth_file_and_settings_by_layer(net: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save(net.state_dict(), tmp_path / "in.pth")
    arguments = ["huffman", "compress", str(tmp_path / "in.pth"), str(tmp_path / "out.lhuf"), *ARCH]
    assert (
        main([*arguments, "--bits", "classifier.1=2", "--density", "features.0=0.25", "--layout", "streams"])
        == 0
    )
    shown = capsys.readouterr()
    assert re.search(r"^classifier.1 +6×512 ", shown.out, re.M)
    assert re.search(
        rf"out.lhuf: {(tmp_path / 'out.lhuf').stat().st_size} bytes, [0-9.]+ times less", shown.out
    )
    assert [line.split(" … ")[0] for line in shown.err.splitlines()] == ["read", "prune", "share", "code"]
    layers = load(tmp_path / "out.lhuf").layers()
    assert layers["classifier.1"].coded.codebook.size == 4 and layers["features.0"].coded.layout == "streams"
    assert (layers["features.0"].dense_weight() != 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert (layers["classifier.1"].dense_weight() != 0).all()


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's, before it refuses
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            "missing",
            "in.safetensors has no features.0.weight, which squeezenet1_1 has; nearest: features",
        ),
        ("extra", r"in.safetensors has more, which squeezenet1_1 has not \(1 such tensors\)"),
        ("shape", r"classifier.1.bias is \(7,\) in in.safetensors, expected \(6,\)"),
        ("type", "classifier.1.bias is torch.int64 in in.safetensors, expected torch.float32"),
        ("nan", "features.3.squeeze: the weight has NaN or infinite values"),
        ("garbage", "in.safetensors is no state dict of tensors"),
        ("pickle", "in.pth is no state dict of tensors"),
        ("absent", "cannot be read: No such file"),
        ("list", "in.pth holds list, expected a dict of tensors by name"),
    ],
)
def test_what_is_no_checkpoint_of_the_net_is_refused(
    broken: str, message: str, net: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tensors: dict[str, Tensor] = {name: own.clone() for name, own in net.state_dict().items()}
    source, target = tmp_path / "in.safetensors", tmp_path / "out.lhuf"
    if broken == "missing":
        del tensors["features.0.weight"]
    elif broken == "extra":
        tensors["more"] = torch.zeros(1)
    elif broken == "shape":
        tensors["classifier.1.bias"] = torch.zeros(7)
    elif broken == "type":
        tensors["classifier.1.bias"] = torch.zeros(6, dtype=torch.int64)
    elif broken == "nan":
        tensors["features.3.squeeze.weight"][0, 0] = torch.nan
    save_file(tensors, source)
    if broken == "garbage":
        source.write_bytes(b"not a checkpoint")
    elif broken in ("pickle", "list"):
        source = tmp_path / "in.pth"
        if broken == "list":
            torch.save([torch.zeros(1)], source)
        else:
            source.write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    elif broken == "absent":
        source.unlink()
    assert main(["huffman", "compress", str(source), str(target), *ARCH]) == 1
    assert re.search(rf"^leandnn: .*{message}", capsys.readouterr().err, re.M)
    assert not target.exists() and not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "alexnett"], "torchvision.models has no net 'alexnett'; nearest: alexnet"),
        ([*ARCH, "--density", "much"], "--density is much, expected one number"),
        ([*ARCH, "--density", "1.5"], "density is 1.5, expected 0 to 1"),
        ([*ARCH, "--bits", "features.0=9"], "features.0: bits is 9, expected 1 to 8"),
        ([*ARCH, "--bits", "nowhere=4"], "the model has no layer nowhere"),
        ([*ARCH, "--layout", "rows"], "layout is 'rows', expected auto, lanes or streams"),
    ],
)
def test_settings_out_of_range_are_refused(
    arguments: list[str], message: str, compressed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = compressed.with_name("in.safetensors")
    assert main(["huffman", "compress", str(source), str(tmp_path / "out.lhuf"), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def answers(text: str) -> dict[str, list[int]]:
    lines = [line.split(": ", 1) for line in text.splitlines()]
    return {name: [int(part.split()[0]) for part in rest.split(", ")] for name, rest in lines}


def best(logits: Tensor, count: int) -> list[int]:
    return logits.softmax(0).topk(count).indices.tolist()


def test_images_and_arrays_are_classified_as_the_model_does(
    compressed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = load(compressed)
    batch = torch.randn(5, 3, 64, 64)
    np.save(tmp_path / "batch.npy", batch.numpy())
    save_file({"images": batch}, tmp_path / "batch.safetensors")
    expected = [best(row, 3) for row in model(batch)]
    for name, options in (("batch.npy", []), ("batch.safetensors", ["--batch", "2"])):
        assert main(["huffman", "run", str(compressed), str(tmp_path / name), "--top", "3", *options]) == 0
        found = answers(capsys.readouterr().out)
        assert found == {f"{name}[{number}]": own for number, own in enumerate(expected)}
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    files = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for file in files:
        Image.fromarray(pixels).save(file)
    assert main(["huffman", "run", str(compressed), *map(str, files), "--size", "64"]) == 0
    expected = [best(model(read(file, 64)[None])[0], 5) for file in files]
    assert answers(capsys.readouterr().out) == dict(zip(["a.png", "b.jpg"], expected, strict=True))


def test_images_are_scaled_cut_and_normalised_as_for_imagenet(tmp_path: Path):
    Image.new("RGB", (80, 40), (255, 0, 128)).save(tmp_path / "a.png")
    image = read(tmp_path / "a.png", 32)
    assert image.shape == (3, 32, 32)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(
        image, torch.tensor(expected)[:, None, None].expand(3, 32, 32), rtol=1e-4, atol=1e-4
    )


def test_what_is_no_image_is_refused(compressed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.png").write_bytes(b"no image")
    np.save(tmp_path / "flat.npy", np.zeros((3, 8, 8), np.float32))
    np.save(tmp_path / "many.npy", np.zeros((1, 5, 64, 64), np.float32))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for names, message in (
        (["a.png"], "a.png is no image that can be read"),
        (["absent.png"], "absent.png is no file"),
        (["flat.npy"], r"flat.npy is float32 \(3, 8, 8\), expected float32 \(N, C, H, W\)"),
        (["many.npy"], r"the net does not run on many.npy, float32 \(1, 5, 64, 64\): "),
        (["objects.npy"], "objects.npy holds no array"),
        (["a.png", "flat.npy"], "a.png is one of 2 files, expected one batch, or images"),
    ):
        files = [str(tmp_path / name) for name in names]
        assert main(["huffman", "run", str(compressed), *files]) == 1
        assert re.search(message, capsys.readouterr().err)
    assert main(["huffman", "run", str(compressed), str(tmp_path / "flat.npy"), "--batch", "0"]) == 1
    assert "--batch is 0, expected at least 1" in capsys.readouterr().err


def test_inspect_shows_sections_and_layers(compressed: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["huffman", "inspect", str(compressed)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.startswith(f"m.lhuf: {compressed.stat().st_size} bytes, version 1, leandnn ")
    assert re.findall(r"^\d+ +([A-Z]+) ", shown.out, re.M) == ["META", "TENSORS"] + 26 * ["CODED"]
    assert len(re.findall(r" right$", shown.out, re.M)) == 28
    for own in load(compressed).bits():
        assert re.search(rf"^{own.name} +{own.rows}×{own.columns} .* {own.total_bits // 8} ", shown.out, re.M)


def test_inspect_names_what_is_broken_and_shows_the_rest(
    compressed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    whole = compressed.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1  # in the last coded layer
    name = bytearray(whole)
    name[8] = 2
    for content, message, layers in (
        (bytes(flipped), "the checksum of section 27 is wrong", 25),
        (whole[: len(whole) // 2], f"the file has {len(whole) // 2} bytes, its header says {len(whole)}", 10),
        (whole + b"more", f"the file has {len(whole) + 4} bytes, its header says {len(whole)}", 26),
        (bytes(name), "the format's version is 2, expected 1", 0),
        (b"PK" + whole[2:], "the file begins with b'PK", 0),
        (b"", "the file has 0 bytes, a header alone has", 0),
        (whole[:100], "the header says 28 sections, the file has room for the table of 2", 0),
    ):
        broken = tmp_path / "broken.lhuf"
        broken.write_bytes(content)
        assert main(["huffman", "inspect", str(broken)]) == 1
        shown = capsys.readouterr()
        assert f"leandnn: broken.lhuf: {message}" in shown.err
        assert len(re.findall(r"^(?:features|classifier)\S+ ", shown.out, re.M)) >= layers
    assert main(["huffman", "inspect", str(tmp_path / "absent")]) == 1
    assert "absent cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="NOT CHECKED: peaks of memory are counted on Linux only")
def test_a_plan_is_made_kept_and_run(compressed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    common = [
        "huffman",
        "plan",
        str(compressed),
        "--shape",
        "3",
        "64",
        "64",
        "--batches",
        "1",
        "3",
        "--repeats",
        "1",
    ]
    kept = tmp_path / "plan.json"
    assert main([*common, "--memory", "500MB", "--latency", "100", "--json", str(kept)]) == 0
    shown = capsys.readouterr().out
    plan = BatchPlan.from_json(json.loads(kept.read_text()))
    assert re.findall(r"^(\S+) +(\d+)$", shown, re.M) == [
        (name, str(size)) for name, size in zip(plan.units, plan.batches, strict=True)
    ]
    assert set(plan.batches) <= {1, 3} and f"{plan.memory_nbytes / 1e6:.2f} MB" in shown
    batch = torch.randn(4, 3, 64, 64)
    np.save(tmp_path / "batch.npy", batch.numpy())
    run = ["huffman", "run", str(compressed), str(tmp_path / "batch.npy"), "--plan", str(kept)]
    assert main([*run, "--top", "1"]) == 0
    expected = [[number] for number in load(compressed)(batch).argmax(1).tolist()]
    assert list(answers(capsys.readouterr().out).values()) == expected
    assert main([*common, "--memory", "100kB"]) == 1
    assert re.search(
        r"no batch sizes fit into 0.1 MB: the least that would do is [0-9.]+ MB", capsys.readouterr().err
    )
    shutil.copy(compressed, kept)
    assert main(run) == 1
    assert "plan.json is no JSON" in capsys.readouterr().err


def test_sizes_are_read_with_their_units():
    for text, nbytes in (("32MB", 32_000_000), ("1.5GiB", 3 << 29), ("1000", 1000), (" 2 kb ", 2000)):
        assert huffman.size(text) == nbytes
    for text in ("32 apples", "-1MB", "", "MB"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no size, expected for example 32MB"):
            huffman.size(text)
