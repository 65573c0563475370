import numpy as np
from numpy.typing import NDArray

def supported() -> list[str]: ...
def select(isa: str) -> None: ...
def selected() -> str: ...
def round(src: int, dst: int, n: int, how: int, seed: int, threads: int) -> None: ...
def fma(rounds: int) -> float: ...
def has_bf16_products() -> bool: ...
def crc32c(data: NDArray[np.uint8]) -> int: ...
def transpose(x: int, x_ld: int, rows: int, columns: int, out: int) -> None: ...

class Coded:
    def __init__(
        self,
        rows: int,
        columns: int,
        lanes: bool,
        advance_lengths: NDArray[np.uint8],
        weight_lengths: NDArray[np.uint8],
        codebook: NDArray[np.float32],
        counts: NDArray[np.uint8],
        count_bytes: int,
        offsets: NDArray[np.uint32],
        data: NDArray[np.uint8],
    ) -> None: ...
    @property
    def table_bytes(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...
    def slots(self, advances: int, weights: int, threads: int) -> None: ...
    def symbols(self, out: int, threads: int) -> None: ...
    def dense(self, out: int, threads: int) -> None: ...
    def compressed_rows(self, columns: int, values: int, threads: int) -> None: ...
    def product(
        self,
        x: int,
        x_ld: int,
        n: int,
        y: int,
        y_ld: int,
        bias: int,
        threads: int,
    ) -> None: ...

class Geometry:
    def __init__(
        self,
        images: int,
        channels: int,
        height: int,
        width: int,
        kernel_h: int,
        kernel_w: int,
        stride_h: int,
        stride_w: int,
        pad_h: int,
        pad_w: int,
        dilation_h: int,
        dilation_w: int,
        out_h: int,
        out_w: int,
    ) -> None: ...

class Plan:
    def __init__(
        self,
        rows: int,
        columns: int,
        n_o: int,
        n_i: int,
        m_r: int,
        m_b: int,
        h: int,
        base_begin: NDArray[np.int32],
        bases: NDArray[np.int32],
        offset_begin: NDArray[np.int32],
        offsets: NDArray[np.int32],
        starts: NDArray[np.int64],
        pairs: bool,
    ) -> None: ...
    def set_tiles(self, source: NDArray[np.int32], th: int, tw: int, h_source: int, values: int) -> None: ...
    def product(
        self,
        values: int,
        x: int,
        x_layout: int,
        x_bf16: bool,
        x_ld: int,
        n: int,
        y: int,
        y_layout: int,
        y_bf16: bool,
        y_ld: int,
        bias: int,
        relu: bool,
        threads: int,
    ) -> None: ...
    def transposed(
        self,
        values: int,
        dy: int,
        dy_layout: int,
        dy_bf16: bool,
        dy_ld: int,
        n: int,
        dx: int,
        dx_layout: int,
        dx_bf16: bool,
        dx_ld: int,
        threads: int,
    ) -> None: ...
    def sampled(
        self,
        dy: int,
        dy_layout: int,
        dy_bf16: bool,
        dy_ld: int,
        x: int,
        x_layout: int,
        x_bf16: bool,
        x_ld: int,
        n: int,
        values: int,
        threads: int,
    ) -> None: ...
    def conv(
        self,
        values: int,
        x: int,
        x_bf16: bool,
        geometry: Geometry,
        y: int,
        y_bf16: bool,
        bias: int,
        relu: bool,
        threads: int,
    ) -> None: ...
    def conv_transposed(
        self, values: int, dy: int, bf16: bool, geometry: Geometry, dx: int, threads: int
    ) -> None: ...
    def conv_sampled(
        self, dy: int, bf16: bool, x: int, geometry: Geometry, values: int, threads: int
    ) -> None: ...

class Scattered:
    def __init__(self, plan: Plan) -> None: ...
    def transposed(
        self,
        values: int,
        dy: int,
        dy_layout: int,
        dy_bf16: bool,
        dy_ld: int,
        n: int,
        dx: int,
        dx_layout: int,
        dx_bf16: bool,
        dx_ld: int,
        threads: int,
    ) -> None: ...
    def conv_transposed(
        self, values: int, dy: int, bf16: bool, geometry: Geometry, dx: int, threads: int
    ) -> None: ...
