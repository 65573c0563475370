"""The commands of paper 5: `leandnn huffman compress | run | inspect | plan`."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from leandnn.errors import LeandnnError
from leandnn.files import unreadable

Number = TypeVar("Number", int, float)

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def add(commands: Any) -> None:
    """Add the parsers to the command line's."""
    huffman = commands.add_parser("huffman", help="compress nets with Huffman codes; run, inspect, plan them")
    actions = huffman.add_subparsers(dest="action", required=True, metavar="ACTION")

    own = actions.add_parser("compress", help="prune, share and code a checkpoint's weights")
    own.add_argument(
        "source", type=Path, metavar="IN", help="state dict: .safetensors, or .pth (weights only)"
    )
    own.add_argument("target", type=Path, metavar="OUT", help="the .lhuf file to write")
    own.add_argument(
        "--arch", default="alexnet", help="name of the net in torchvision.models (default alexnet)"
    )
    own.add_argument("--classes", type=int, default=1000, help="outputs of the net (default 1000)")
    own.add_argument(
        "--density", nargs="+", metavar="[LAYER=]SHARE",
        help="share of weights to keep, of all layers or of one; default: of alexnet "
        "what huffman/full_alexnet.py lists by layer, of other nets all weights. Nothing is retrained: for a "
        "checkpoint that was pruned and trained, say 1",
    )  # fmt: skip
    own.add_argument(
        "--bits", nargs="+", metavar="[LAYER=]BITS",
        help="log2 of a layer's shared values, 1 to 8 (default: 8 of convolutions, 5 of linear layers)",
    )  # fmt: skip
    own.add_argument(
        "--index-bits", type=int, help="width of relative indices (default: the smallest result's)"
    )
    own.add_argument("--code-bits", type=int, help="longest code word, up to 11 (default: 7 or 11 by layer)")
    own.add_argument("--layout", default="auto", help="auto, lanes or streams")
    own.set_defaults(run=compress)

    own = actions.add_parser("run", help="classify images with a compressed net")
    own.add_argument("file", type=Path, metavar="FILE.lhuf")
    own.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE",
        help="JPEG or PNG files; or one .npy or .safetensors file of float32 (N, C, H, W), taken as it is",
    )  # fmt: skip
    own.add_argument("--size", type=int, default=224, help="side of the middle that is cut out (default 224)")
    own.add_argument("--batch", type=int, default=1, help="images at once (default 1)")
    own.add_argument("--plan", type=Path, help="batch sizes by layer, from `leandnn huffman plan --json`")
    own.add_argument("--top", type=int, default=5, help="classes to print (default 5)")
    own.set_defaults(run=classify)

    own = actions.add_parser("inspect", help="what a file holds, and what is wrong with it")
    own.add_argument("file", type=Path, metavar="FILE.lhuf")
    own.set_defaults(run=inspect)

    own = actions.add_parser("plan", help="measure, and choose a batch size for each layer")
    own.add_argument("file", type=Path, metavar="FILE.lhuf")
    own.add_argument("--memory", type=size, help="at the peak, for example 32MB or 32MiB")
    own.add_argument("--latency", type=float, help="seconds")
    own.add_argument(
        "--shape", type=int, nargs="+", default=[3, 224, 224], help="of an image (default 3 224 224)"
    )
    own.add_argument("--batches", type=int, nargs="+", help="sizes to choose from (default 1 to 64)")
    own.add_argument("--uniform", action="store_true", help="one size for all layers")
    own.add_argument("--repeats", type=int, default=5, help="rounds of measurement (default 5)")
    own.add_argument("--json", type=Path, dest="output", help="write the plan to this file")
    own.set_defaults(run=make_plan)


def size(text: str) -> int:
    """Bytes from "32MB", "1.5GiB" or "1000"; argparse reports what is none."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no size, expected for example 32MB or 32MiB")
    return int(float(match[1]) * _UNITS[match[2]])


def compress(arguments: argparse.Namespace) -> int:
    """`leandnn huffman compress`."""
    from leandnn.files import must_be_writable
    from leandnn.huffman import bit_table, checkpoints, full_alexnet
    from leandnn.huffman.compress import encode, prune_layers, share_layers

    density = _by_layer("density", arguments.density, float)
    if density is None and arguments.arch == "alexnet":
        density = full_alexnet.DENSITIES
    bits = _by_layer("bits", arguments.bits, int)
    must_be_writable(arguments.target.absolute().parent)
    with _steps("read"):
        net = checkpoints.load(arguments.source, arguments.arch, arguments.classes)
    dense = sum(tensor.nbytes for tensor in net.state_dict().values())
    try:
        with _steps("prune"):
            prune_layers(net, density=density)
        with _steps("share"):
            share_layers(net, bits)
        with _steps("code"):
            compressed = encode(
                net,
                index_bits=arguments.index_bits,
                code_bits=arguments.code_bits,
                layout=arguments.layout,
            )
    except ValueError as error:
        raise LeandnnError(str(error)) from error
    compressed.save(arguments.target)
    print(bit_table.table(compressed.bits()))
    written = arguments.target.stat().st_size
    print(f"{arguments.target}: {written} bytes, {dense / written:.1f} times less than the net's {dense}")
    if compressed.program is None:
        print(f"it needs the model's code to load: {compressed.untraced}", file=sys.stderr)
    return 0


def classify(arguments: argparse.Namespace) -> int:
    """`leandnn huffman run`."""
    from tqdm import tqdm

    from leandnn.huffman import execute, images, load
    from leandnn.huffman.batch_plan import BatchPlan
    from leandnn.huffman.chain import units
    from leandnn.machine import memory

    _at_least_one(batch=arguments.batch, size=arguments.size, top=arguments.top)
    model = load(arguments.file)
    queue = images.queue(arguments.images, arguments.size)
    if arguments.plan is not None:
        memory.return_freed()
        results = BatchPlan.from_json(_json(arguments.plan)).run(model, queue)
    else:
        chain = units(model)
        results = execute.run(chain, [arguments.batch] * len(chain), queue)
    try:
        shown = zip(
            queue.names,
            tqdm(results, total=len(queue.names), unit="image", leave=False, disable=None),
            strict=True,
        )
        for name, logits in shown:
            if logits.dim() != 1:
                raise LeandnnError(
                    f"the net makes {tuple(logits.shape)} of an image, expected one row of classes"
                )
            print(f"{name}: {images.top(logits, arguments.top)}", flush=True)
    except (ValueError, RuntimeError) as error:
        raise LeandnnError(f"the net does not run on {queue.described}: {error}") from error
    return 0


def inspect(arguments: argparse.Namespace) -> int:
    """`leandnn huffman inspect`."""
    from leandnn.huffman import bit_table
    from leandnn.huffman import inspect as inspection

    found = inspection.inspect(arguments.file)
    print(inspection.text(found, arguments.file.name))
    if found.layers:
        print(bit_table.table(found.layers))
    for problem in found.problems:
        print(f"leandnn: {arguments.file.name}: {problem}", file=sys.stderr)
    return 1 if found.problems else 0


def make_plan(arguments: argparse.Namespace) -> int:
    """`leandnn huffman plan`."""
    from leandnn.files import must_be_writable, write_json
    from leandnn.huffman import Costs, load, plan
    from leandnn.huffman.costs import BATCHES
    from leandnn.machine import memory

    _at_least_one(
        repeats=arguments.repeats, shape=min(arguments.shape), batches=min(arguments.batches or [1])
    )
    if arguments.output is not None:
        must_be_writable(arguments.output.absolute().parent)
    model = load(arguments.file)
    memory.return_freed()  # as `run --plan` does
    try:
        costs = Costs.measure(
            model, arguments.shape, arguments.batches or BATCHES, arguments.repeats, progress=True
        )
        chosen = plan(
            None, costs=costs, memory=arguments.memory, latency=arguments.latency, uniform=arguments.uniform
        )
    except (ValueError, RuntimeError) as error:
        raise LeandnnError(f"no plan for images of {tuple(arguments.shape)}: {error}") from error
    for name, batch in zip(chosen.units, chosen.batches, strict=True):
        print(f"{name:<24}{batch:>6}")
    print(
        f"predicted: {chosen.images_per_second:.4g} images/s, latency {chosen.latency:.4g} s, "
        f"{chosen.memory_nbytes / 1e6:.2f} MB; medians of {arguments.repeats} repeats, {costs.threads} threads"
    )
    if arguments.output is not None:
        write_json(arguments.output, chosen.to_json())
    return 0


def _by_layer(
    option: str, given: Sequence[str] | None, kind: Callable[[str], Number]
) -> Number | dict[str, Number] | None:
    """What "0.1" or "features.0=0.8 classifier.1=0.1" say."""
    if given is None:
        return None
    try:
        if len(given) == 1 and "=" not in given[0]:
            return kind(given[0])
        pairs = [text.rsplit("=", 1) for text in given]
        return {name: kind(value) for name, value in pairs}
    except ValueError as error:
        raise LeandnnError(
            f"--{option} is {' '.join(given)}, expected one number, or LAYER=NUMBER for each layer"
        ) from error


def _at_least_one(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise LeandnnError(f"--{name} is {value}, expected at least 1")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise LeandnnError(f"{path} is no JSON: {error}") from error


@contextmanager
def _steps(name: str) -> Iterator[None]:
    """Says on stderr what has begun and how long it took: compressing a large net takes minutes."""
    begin = time.perf_counter()
    print(f"{name} … ", end="", file=sys.stderr, flush=True)
    try:
        yield
    except BaseException:
        print(file=sys.stderr)
        raise
    print(f"{time.perf_counter() - begin:.1f} s", file=sys.stderr)
