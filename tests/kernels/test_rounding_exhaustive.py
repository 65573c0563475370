"""All 2^32 floats rounded to BF16 and to FP16: bit-equal to torch's cast."""

from __future__ import annotations

import pytest
import torch

from leandnn.kernels import dispatch, round_to

pytestmark = pytest.mark.slow

CHUNK = 1 << 23  # one exponent: each chunk is all numbers, or all but one of it NaN
NAN = 0x7FC00000


@pytest.mark.parametrize(
    ("fmt", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)], ids=["bf16", "fp16"]
)
def test_every_float_rounds_to_the_bits_of_torchs_cast(fmt: str, dtype: torch.dtype):
    natives = [choice for choice in dispatch.supported() if choice != "reference"] or ["reference"]
    patterns = torch.arange(CHUNK, dtype=torch.int32)
    narrow = torch.empty(CHUNK, dtype=dtype)
    expected, found = torch.empty(CHUNK), torch.empty(CHUNK)
    checked = 0
    for start in range(-(1 << 31), 1 << 31, CHUNK):
        x = patterns.view(torch.float32)
        patterns.copy_(torch.arange(start, start + CHUNK, dtype=torch.int32))
        expected.copy_(narrow.copy_(x))
        if torch.isnan(x[-1]):
            expected.view(torch.int32)[1:] = NAN  # torch writes several values here
            assert torch.isnan(x[1:]).all()
            assert torch.isinf(x[0])
        for choice in natives:
            with dispatch.using(choice):
                round_to(x, fmt, out=found)
            assert torch.equal(found.view(torch.int32), expected.view(torch.int32)), (choice, start)
        checked += CHUNK
    assert checked == 1 << 32
