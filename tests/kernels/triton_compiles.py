"""Every Triton kernel compiled for a Hopper GPU, on a machine without one; test_panels_triton runs this file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from leandnn.kernels.panels import gpu, gpu_launch
from leandnn.kernels.panels.format import Graph, Panels

SHARED = 227 * 1024  # bytes of on-chip memory that a program may have on sm_90
POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


def compiled(kernel: Any, arguments: dict[str, Any]) -> Any:
    """As Triton's launcher would specialise it for these arguments: ones and multiples of 16 are known."""
    arguments = dict(arguments)
    options = {name: arguments.pop(name) for name in ("num_warps", "num_stages") if name in arguments}
    signature: dict[str, Any] = {}
    constants: dict[tuple[int, ...], Any] = {}
    known: dict[tuple[int, ...], Any] = {}

    def kind(value: Any, place: tuple[int, ...], constant: bool = False) -> Any:
        if isinstance(value, tuple):
            return tuple(kind(v, (*place, i)) for i, v in enumerate(value))
        if constant or value is None or (isinstance(value, int) and value == 1):
            constants[place] = value
            return "constexpr"
        if isinstance(value, Tensor) or value % 16 == 0:
            known[place] = [["tt.divisibility", 16]]
        return POINTERS[value.dtype] if isinstance(value, Tensor) else "i32"

    for place, name in enumerate(kernel.arg_names):
        signature[name] = kind(arguments[name], (place,), constant=name.isupper())
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=known)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def ring(left: int, right: int, degree: int) -> Graph:
    return Graph.from_mask(np.array([[(j - i) % right < degree for j in range(right)] for i in range(left)]))


@pytest.fixture
def machine_code(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """PTX of each kernel launched, by its name."""
    found: dict[str, str] = {}

    def run(kernel: Any, grid: Any, data: Tensor, arguments: dict[str, Any]) -> None:
        result = compiled(kernel, arguments)
        assert result.metadata.shared <= SHARED
        assert result.asm["cubin"]
        found[kernel.__name__] = result.asm["ptx"]

    monkeypatch.setattr(gpu_launch, "_run", run)
    return found


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("variant", ["panels", "tiles", "rows"])
def test_products_compile(variant: str, kind: torch.dtype, machine_code: dict[str, str]):
    panels = Panels(ring(32, 128, 32), (4, 1), ring(32, 32, 16), (1, 1))
    index = gpu.PanelsIndex.build(panels, "cpu")
    values, x = torch.zeros(panels.nnz, dtype=kind), torch.zeros(4096, 256, dtype=kind)
    gpu.forward(index, values, x, torch.zeros(4096), True, variant=variant)
    if kind == torch.bfloat16 and variant != "rows":
        forward = machine_code[f"forward_{variant}"]
        assert ("wgmma" if variant == "tiles" else "mma.sync") in forward, "not on the tensor cores"
    gpu.grad_x(index, values, x, variant=variant)
    gpu.grad_values(index, x, x, variant=variant)
    assert set(machine_code) == {f"forward_{variant}", f"gradient_{variant}", "transpose_values"}


def test_convolution_compiles(machine_code: dict[str, str]):
    panels = Panels(ring(4, 4, 2), (4, 1), ring(8, 8, 4), (4, 9))
    index = gpu.PanelsIndex.build(panels, "cpu")
    values, x = (
        torch.zeros(panels.nnz, dtype=torch.bfloat16),
        torch.zeros(2, 32, 16, 16, dtype=torch.bfloat16),
    )
    y = gpu.conv2d(index, values, x, (3, 3), padding=(1, 1), variant="panels")
    gpu.conv2d_grad_x(index, values, y, (16, 16), (3, 3), padding=(1, 1), variant="panels")
    gpu.conv2d_grad_values(index, y, x, (3, 3), padding=(1, 1), variant="panels")
    assert len(machine_code) == 3
