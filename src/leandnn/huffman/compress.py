"""A model's way into the compressed form: prune, share weights, code; each stage alone, or all of them by `compress`.

The stages leave an ordinary model behind, whose parameters any training loop can train: a pruned layer keeps its
zeros, a shared one trains its codebook. `encode` then codes what there is.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import numpy as np
from torch import Tensor, nn

from leandnn.huffman import quantise
from leandnn.huffman.layers import HuffmanConv2d, HuffmanLayer, HuffmanLinear, Workspace
from leandnn.huffman.model import Compressed, replaced
from leandnn.huffman.prune import Layer, layers, prune
from leandnn.kernels import dispatch
from leandnn.kernels.huffman.encode import encode as encode_matrix
from leandnn.kernels.huffman.format import LAYOUTS, NARROW_SYMBOLS, Coded

PerLayer = float | Mapping[str, float] | Callable[[str, nn.Module], float | None] | None
Bits = int | Mapping[str, int] | Callable[[str, nn.Module], int | None] | None
Retrain = Callable[[nn.Module, str], None]

CONV_BITS, LINEAR_BITS = 8, 5  # the kind that Deep Compression reports


def compress(
    model: nn.Module,
    *,
    density: PerLayer = None,
    sensitivity: PerLayer = None,
    bits: Bits = None,
    retrain: Retrain | None = None,
    index_bits: int | None = None,
    code_bits: int | None = None,
    layout: str = "auto",
    iterations: int = 100,
) -> Compressed:
    """Prune, share and code a model's Linear and Conv2d layers; the model itself stays as it is.

    - density: share of its weights that a layer keeps: one number, a dict by layer name, or a function of
      (name, layer); layers without one are not pruned. None: nothing is pruned, zeros that are there stay.
    - sensitivity: instead, thresholds in standard deviations of the layer's weights (prune.prune).
    - bits: log2 of the values that a layer's weights share, 1 to 8, one of them zero; 8 for convolutions and 5 for
      linear layers if None. A dict or function need not name all layers: the rest get these defaults.
    - retrain: called as retrain(model, stage) after stage "prune" (if anything was pruned) and after "share", with
      the model to train in place. None: no retraining.
    - index_bits, code_bits, layout: of the code; see encode.
    - iterations: of k-means at most.

    `compress(model)` alone loses only what weight sharing costs. Raises ValueError for arguments out of range, a
    dict's name that is no layer, NaN or infinite weights (naming the layer), hooks of a layer, or a model without
    such layers.
    """
    try:
        work = copy.deepcopy(model)
    except RuntimeError as error:  # weights that are computed by a hook are no leaves
        raise ValueError(
            f"the model cannot be copied; what torch.nn.utils.prune and weight_norm added must be removed: {error}"
        ) from error
    pruned = prune_layers(work, density=density, sensitivity=sensitivity)
    if retrain is not None and pruned:
        retrain(work, "prune")
    share_layers(work, bits, iterations)
    if retrain is not None:
        retrain(work, "share")
    return encode(work, index_bits=index_bits, code_bits=code_bits, layout=layout)


def prune_layers(model: nn.Module, *, density: PerLayer = None, sensitivity: PerLayer = None) -> list[str]:
    """Prune layers in place, to be trained further; the names of those pruned. Arguments as of compress."""
    if density is not None and sensitivity is not None:
        raise ValueError("density and sensitivity are both given, expected one of them")
    found = _layers(model)
    pruned = []
    for name, value in _per_layer(found, density if density is not None else sensitivity).items():
        with _named(name):
            if density is not None:
                prune(found[name], density=value)
            else:
                prune(found[name], sensitivity=value)
        pruned.append(name)
    return pruned


def share_layers(model: nn.Module, bits: Bits = None, iterations: int = 100) -> None:
    """Share the weights of all layers in place, to be trained further; arguments as of compress."""
    found = _layers(model)
    chosen = {name: CONV_BITS if isinstance(own, nn.Conv2d) else LINEAR_BITS for name, own in found.items()}
    for name, value in _per_layer(found, bits).items():
        with _named(name):
            if value != int(value):
                raise ValueError(f"bits is {value}, expected an integer")
        chosen[name] = int(value)
    for name, layer in found.items():
        with _named(name):
            quantise.share(layer, chosen[name], iterations)


def encode(
    model: nn.Module, *, index_bits: int | None = None, code_bits: int | None = None, layout: str = "auto"
) -> Compressed:
    """Code a model whose layers were shared; the model itself stays as it is.

    - index_bits: width of a relative index, 1 to 8; the smallest result's for each layer if None.
    - code_bits: longest code word, up to 11; if None 7 where tables fit into registers (at most 32 values, "lanes"),
      else 11.
    - layout: "lanes", "streams" (kernels/huffman/format.py) or "auto": for each layer what this CPU decodes faster,
      "lanes" where it has AVX2 and the codebook at most 32 values, else "streams". Either can be read on every machine.

    The coded net computes in float32, and its other tensors become that, too. Raises ValueError, naming the layer,
    where weights are not shared or hooks would be lost.
    """
    if layout not in ("auto", *LAYOUTS):
        raise ValueError(f"layout is {layout!r}, expected auto, {' or '.join(LAYOUTS)}")
    vectors = "lanes" if "avx2" in dispatch.supported() else "streams"
    work = copy.deepcopy(model).cpu().float().eval()
    found = _layers(work)
    workspace = Workspace()
    replacements: dict[str, HuffmanLayer] = {}
    for name, layer in found.items():
        with _named(name):
            if layer._forward_hooks or layer._forward_pre_hooks:
                raise ValueError("the layer has hooks, which its coded form would not run: remove them")
            symbols, codebook = quantise.shared_weights(layer)
            matrix = np.ascontiguousarray(symbols.reshape(symbols.shape[0], -1))
            own = layout if layout != "auto" else vectors if codebook.size <= NARROW_SYMBOLS else "streams"
            coded = encode_matrix(matrix, codebook, layout=own, index_bits=index_bits, limit=code_bits)
            bias = None if layer.bias is None else layer.bias.detach().float()
            replacements[name] = _coded_layer(layer, coded, bias, workspace)
    made: dict[nn.Module, nn.Module] = {
        found[name]: replacement for name, replacement in replacements.items()
    }
    return Compressed(replaced(work, made), workspace)


def _coded_layer(layer: Layer, coded: Coded, bias: Tensor | None, workspace: Workspace) -> HuffmanLayer:
    if isinstance(layer, nn.Linear):
        return HuffmanLinear(coded, bias)
    return HuffmanConv2d(
        coded,
        bias,
        kernel_size=cast(tuple[int, int], layer.kernel_size),
        stride=cast(tuple[int, int], layer.stride),
        padding=cast(tuple[int, int] | str, layer.padding),
        dilation=cast(tuple[int, int], layer.dilation),
        groups=layer.groups,
        workspace=workspace,
    )


def _layers(model: nn.Module) -> dict[str, Layer]:
    found = layers(model)
    if not found:
        raise ValueError(f"{type(model).__name__} has no Linear or Conv2d layer that can be compressed")
    return found


def _per_layer(
    found: Mapping[str, nn.Module],
    given: PerLayer,
) -> dict[str, float]:
    """What is given for each layer; layers without a value are left out."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        if unknown := sorted(set(given) - set(found)):
            near = difflib.get_close_matches(unknown[0], found, cutoff=0)
            raise ValueError(
                f"the model has no layer {', '.join(unknown)}; near {unknown[0]}: {', '.join(near)}"
            )
        return dict(given)
    if callable(given):
        answers = {name: given(name, layer) for name, layer in found.items()}
        return {name: answer for name, answer in answers.items() if answer is not None}
    return dict.fromkeys(found, given)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Names the layer in what is raised."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name or 'the model'}: {error}") from error
