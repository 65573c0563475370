"""Compressed models and their files: `Compressed`, `load`."""

from __future__ import annotations

import json
import math
import mmap as mapping
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import leandnn
from leandnn.errors import LeandnnError
from leandnn.files import unreadable
from leandnn.huffman import matrices, program, sections, tracing
from leandnn.huffman.bit_table import LayerBits, layer_bits
from leandnn.huffman.layers import HuffmanConv2d, HuffmanLayer, HuffmanLinear, Workspace
from leandnn.huffman.program import Program
from leandnn.kernels.huffman.format import Coded, CodedError

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64, "bool": torch.bool}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class Compressed(nn.Module):
    """A model whose weights stay Huffman-coded while it computes; for inference.

    - model: the net, with HuffmanLinear and HuffmanConv2d layers. Made by compress and load.
    - workspace: of its convolutions.
    - program: what a file said the net computes; traced from the model if None.

    Calling it runs the net, whose parameters are frozen. `program` is None for nets that torch.fx cannot trace
    (`untraced` says why): they run and can be saved, but load needs the model's own code (`into`).
    """

    program: Program | None

    def __init__(self, model: nn.Module, workspace: Workspace, program_: Program | None = None) -> None:
        super().__init__()
        self.model = model
        self.workspace = workspace
        self.untraced = ""  # why there is no program
        if program_ is None:
            try:
                steps = tracing.trace(model, (HuffmanLayer,))
                program_ = Program(steps, dict(model.named_modules()))
            except LeandnnError as error:
                self.untraced = str(error)
        object.__setattr__(self, "program", program_)  # its modules are the model's: not registered twice
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Any:
        """Run the net on a batch."""
        return self.model(x) if self.program is None else self.program(x)

    def layers(self) -> dict[str, HuffmanLayer]:
        """The coded layers by name, in the model's order."""
        found = self.model.named_modules()
        return {name: module for name, module in found if isinstance(module, HuffmanLayer)}

    @property
    def weight_nbytes(self) -> int:
        """Bytes of all coded weights, as they lie in memory."""
        return sum(layer.weight_nbytes for layer in self.layers().values())

    def workspace_nbytes(self, batch: int) -> int:
        """Bytes that the coded layers need beside weights, their tables, inputs and results, for `batch` items.

        The largest decoded convolution, which is kept, and the most that a linear layer needs (of one row an item).
        What torch's own operators take is not in it; costs.py measures that.
        """
        layers = self.layers().values()
        decoded = [own.workspace_nbytes(batch) for own in layers if isinstance(own, HuffmanConv2d)]
        linear = [own.workspace_nbytes(batch) for own in layers if isinstance(own, HuffmanLinear)]
        return max(decoded, default=0) + max(linear, default=0)

    def bits(self) -> list[LayerBits]:
        """Where the bits of each coded layer go."""
        return [layer_bits(name, layer.coded) for name, layer in self.layers().items()]

    def save(self, path: Path | str) -> None:
        """Write a .lhuf file, atomically; LeandnnError where the disk refuses or a tensor's type has no name."""
        tensors, blob, at = {}, [], 0
        for name, tensor in self.model.state_dict().items():
            if not isinstance(tensor, Tensor) or tensor.dtype not in _DTYPE_NAMES:
                kind = getattr(tensor, "dtype", type(tensor).__name__)
                raise LeandnnError(f"{name} is {kind}, a file holds {', '.join(_DTYPES)}")
            raw = tensor.detach().cpu().contiguous().reshape(-1).numpy()
            tensors[name] = {
                "dtype": _DTYPE_NAMES[tensor.dtype],
                "shape": list(tensor.shape),
                "offset": at,
            }
            blob.append(raw.astype(raw.dtype.newbyteorder("<")).view(np.uint8))
            at += raw.nbytes
        coded = self.layers()
        numbers = {id(layer): number for number, layer in enumerate(coded.values())}
        meta = {
            "producer": f"leandnn {leandnn.__version__}",
            "program": None if self.program is None else program.to_json(self.program.steps),
            "modules": _described(self.model, numbers),
            "tensors": tensors,
        }
        try:
            text = json.dumps(meta, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError) as error:  # an argument of a module
            raise LeandnnError(f"the model has an argument that a file cannot hold: {error}") from error
        content = [
            sections.Section(sections.META, np.frombuffer(text, np.uint8)),
            sections.Section(sections.TENSORS, np.concatenate([np.zeros(0, np.uint8), *blob])),
            *(sections.Section(sections.CODED, matrices.to_bytes(layer.coded)) for layer in coded.values()),
        ]
        sections.write(Path(path), content)


def load(path: Path | str, into: nn.Module | None = None, *, mmap: bool = False) -> Compressed:
    """Read a .lhuf file; nothing in it is run as code.

    - into: the model itself, for files whose net torch.fx could not trace (or to keep its class): its layers are
      replaced by the coded ones, in place, and its other tensors filled.
    - mmap: map the weights instead of reading them into memory: pages come as they are used and are shared between
      processes. A file that is replaced (as save does) stays as it was for those who mapped it; one that is
      overwritten or cut off in place does not, and a process that reads beyond its new end is killed by the system.

    Every checksum, size and table is checked here; streams are checked whenever they are decoded. Raises LeandnnError
    for a file that is damaged, no .lhuf file, of another version, or does not fit `into`.
    """
    path = Path(path)
    data = _bytes(path, mmap)
    found = sections.read(data, path.name)
    if [own.kind for own in found[:2]] != [sections.META, sections.TENSORS] or any(
        own.kind != sections.CODED for own in found[2:]
    ):
        raise LeandnnError(f"{path.name} is damaged: its sections are not in their order")
    try:
        meta = json.loads(found[0].data.tobytes())
        coded = [matrices.from_bytes(own.data) for own in found[2:]]
        tensors = _tensors(meta["tensors"], found[1].data)
        return _assembled(meta, coded, tensors, into)
    except CodedError as error:
        raise LeandnnError(f"{path.name} is damaged: {error}") from error
    # What a hostile description may set off: all of it is plain data, looked up in tables.
    except (LookupError, ArithmeticError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise LeandnnError(f"{path.name} describes no model: {reason}") from error


def _bytes(path: Path, mmap: bool) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as stream:
            if not mmap:
                return np.frombuffer(stream.read(), np.uint8)
            return np.frombuffer(mapping.mmap(stream.fileno(), 0, access=mapping.ACCESS_READ), np.uint8)
    except ValueError:  # an empty file cannot be mapped
        return np.zeros(0, np.uint8)
    except OSError as error:
        raise unreadable(path, error) from error


def _tensors(described: Mapping[str, Any], data: NDArray[np.uint8]) -> dict[str, Tensor]:
    """Copies of the tensors, which fill the section one after another: they take no more memory than it does."""
    tensors, end = {}, 0
    for name, own in sorted(described.items(), key=lambda item: int(item[1]["offset"])):
        dtype, shape, offset = _DTYPES[own["dtype"]], [int(size) for size in own["shape"]], int(own["offset"])
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or offset != end or size > data.size - offset:
            raise ValueError(
                f"tensor {name} of shape {shape} lies at {offset}, expected {end} and room for it"
            )
        end = offset + size
        raw = data[offset:end].tobytes()
        if dtype == torch.bool and not set(raw) <= {0, 1}:
            raise ValueError(f"tensor {name} has a truth value other than 0 and 1")
        tensors[name] = (
            torch.frombuffer(bytearray(raw), dtype=dtype).view(shape)
            if raw
            else torch.empty(shape, dtype=dtype)
        )
    if end != data.size:
        raise ValueError(f"tensors end at {end} of {data.size} bytes")
    return tensors


def _described(model: nn.Module, numbers: Mapping[int, int]) -> dict[str, Any]:
    """Kind and arguments of every module that a file can name."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        kind, arguments = type(module).__name__, tuple[str, ...]()
        if isinstance(module, HuffmanConv2d):
            arguments = ("kernel_size", "stride", "padding", "dilation", "groups")
        elif isinstance(module, HuffmanLinear):
            pass
        elif kind in program.MODULES and type(module) is program.MODULES[kind][0]:
            arguments = program.MODULES[kind][1]
        else:
            continue
        values = {key: getattr(module, key) for key in arguments}
        if "bias" in values:
            values["bias"] = values["bias"] is not None
        found[name] = {"kind": kind, "arguments": values}
        if isinstance(module, HuffmanLayer):
            found[name] |= {"coded": numbers[id(module)], "bias": module.bias is not None}
    return found


def _assembled(
    meta: Mapping[str, Any], coded: list[Coded], tensors: dict[str, Tensor], into: nn.Module | None
) -> Compressed:
    workspace = Workspace()
    layers: dict[int, HuffmanLayer] = {}
    modules: dict[str, nn.Module] = {}
    for name, own in meta["modules"].items():
        arguments = {key: _argument(value) for key, value in own["arguments"].items()}
        if "coded" in own:
            number = own["coded"]
            if type(number) is not int or not 0 <= number < len(coded):
                raise ValueError(f"{name} has coded weight {number}, the file has {len(coded)}")
            if number not in layers:
                bias = tensors[f"{name}.bias" if name else "bias"] if own["bias"] else None
                layers[number] = _coded_layer(own["kind"], coded[number], bias, arguments, workspace)
            modules[name] = layers[number]
        elif into is None:
            cls, names = program.MODULES[own["kind"]]
            if set(arguments) != set(names):
                raise ValueError(f"{name} has arguments {sorted(arguments)}, expected {sorted(names)}")
            with torch.device(
                "meta"
            ):  # its tensors come from the file: nothing is allocated before they are seen
                modules[name] = cls(**arguments)
    if len(layers) != len(coded):
        raise ValueError(f"{len(layers)} of {len(coded)} coded weights belong to layers")
    if into is not None:
        return Compressed(_filled(into, modules, tensors), workspace)
    if meta["program"] is None:
        raise LeandnnError(
            "the file holds weights of a net that torch.fx could not trace: load(path, into=model)"
        )
    model = modules[""] if "" in modules else _tree(modules, tensors)
    model.load_state_dict(tensors, assign=True)
    return Compressed(model, workspace, Program(program.from_json(meta["program"]), modules))


def _coded_layer(
    kind: str, coded: Coded, bias: Tensor | None, arguments: dict[str, Any], workspace: Workspace
) -> HuffmanLayer:
    if kind == "HuffmanLinear":
        return HuffmanLinear(coded, bias, **arguments)
    if kind == "HuffmanConv2d":
        return HuffmanConv2d(coded, bias, workspace=workspace, **arguments)
    raise ValueError(f"{kind} is no kind of coded layer")


def _argument(value: Any) -> Any:
    if isinstance(value, list) and all(item is None or type(item) is int for item in value):
        return tuple(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"an argument is {value!r}")


def _tree(modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> nn.Module:
    """Modules by their dotted names; those that only hold others are plain, with the tensors of no known layer."""
    root = nn.Module()
    for name, module in modules.items():
        *path, last = name.split(".")
        _holder(root, path).add_module(last, module)
    known = set(root.state_dict())
    for name, tensor in tensors.items():
        if name not in known:
            *path, last = name.split(".")
            holder = _holder(root, path)
            if type(holder) is not nn.Module:
                raise ValueError(f"the layer of tensor {name} has none of that name")
            holder.register_buffer(last, tensor)
    return root


def _holder(root: nn.Module, path: list[str]) -> nn.Module:
    for step in path:
        if step not in root._modules:
            root.add_module(step, nn.Module())
        root = cast(nn.Module, root._modules[step])
    return root


def _filled(into: nn.Module, coded: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> nn.Module:
    """The model with its layers replaced by coded ones, in place, and all other tensors from the file."""
    known = dict(into.named_modules(remove_duplicate=False))
    for name, layer in coded.items():
        if name not in known:
            raise LeandnnError(f"the model has no layer {name}, for which the file has a coded weight")
        own, layer = known[name], cast(HuffmanLayer, layer)
        weight = getattr(own, "weight", None)
        kind = nn.Linear if isinstance(layer, HuffmanLinear) else nn.Conv2d
        shape = tuple(weight.shape) if isinstance(weight, Tensor) else None
        if (
            not isinstance(own, kind)
            or shape is None
            or (shape[0], math.prod(shape[1:])) != layer.coded.shape
        ):
            raise LeandnnError(f"{name} is {own} in the model, the file has {layer}")
    _must_fit(into, coded, tensors)
    model = replaced(into, {known[name]: layer for name, layer in coded.items()})
    model.load_state_dict(tensors)
    return model


def _must_fit(into: nn.Module, coded: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """LeandnnError where the file's tensors are not the model's, less the weights that are coded."""
    weights = {f"{name}.weight".removeprefix(".") for name in coded}
    own = {name: tuple(t.shape) for name, t in into.state_dict().items() if name not in weights}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    for name in sorted(own.keys() | found.keys()):
        if own.get(name) != found.get(name):
            words = [f"of shape {s[name]}" if name in s else "nothing" for s in (own, found)]
            raise LeandnnError(f"{name} is {words[0]} in the model, {words[1]} in the file")


def replaced(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """The model with modules replaced, in place, wherever they are used."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                setattr(parent, name, replacements[child])
    return replacements.get(model, model)
