"""Log-mel spectra of speech, in bytes: the input that every speech data set here is stored as.

Computed in float64 and rounded to steps of 0.4 dB. Processors differ in the last bits of a Fourier transform,
some 1e-13 of a step, so the bytes are the same on all of them but for a value in ten million million.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from leandnn.errors import LeandnnError

MELS = 40
WINDOW_SECONDS = 512 / 22050  # 23.2 ms
HOP_SECONDS = 256 / 22050  # 11.6 ms
LOW_HZ, HIGH_HZ = 60.0, 8000.0
FLOOR_DB, STEP_DB = -100.0, 0.4  # byte b is FLOOR_DB + b STEP_DB, relative to a full-scale sine's power


def log_mel(samples: Tensor, rate: int) -> Tensor:
    """The log-mel spectrum of one utterance.

    - samples: (S,) of any real dtype, in [-1, 1).
    - rate: samples per second, 16000 or more (the highest band ends at 8 kHz).

    Returns uint8 (T, 40), one row per 11.6 ms, T = 1 + (S - window) // hop; see FLOOR_DB for the unit.
    LeandnnError for another shape, a lower rate, values that are not finite, or less than one window of sound.
    """
    window, hop = round(WINDOW_SECONDS * rate), round(HOP_SECONDS * rate)
    if samples.dim() != 1 or rate < 2 * HIGH_HZ:
        raise LeandnnError(
            f"speech has shape {tuple(samples.shape)} at {rate} Hz, expected (S,) at {2 * HIGH_HZ:.0f} Hz or more"
        )
    if len(samples) < window:
        raise LeandnnError(f"speech has {len(samples)} samples, expected at least {window} (one window)")
    samples = samples.double()
    if not bool(torch.isfinite(samples).all()):
        raise LeandnnError("speech holds samples that are not finite")
    size = 1 << (window - 1).bit_length()
    shape, bands = _window(window), _filters(rate, size)
    spectrum = torch.fft.rfft(samples.unfold(0, window, hop) * shape, size)
    power = (spectrum.real.square() + spectrum.imag.square()) / (shape.sum() / 2).square()
    level = 10 * torch.log10((power @ bands).clamp_min(1e-30))
    return ((level - FLOOR_DB) / STEP_DB).round().clamp(0, 255).to(torch.uint8)


@functools.cache
def _window(count: int) -> Tensor:
    """Hann's window, float64 (count,)."""
    return torch.hann_window(count, dtype=torch.float64)


@functools.cache
def _filters(rate: int, size: int) -> Tensor:
    """Triangles of equal width on the mel scale of O'Shaughnessy (1987), float64 (size / 2 + 1, 40)."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (LOW_HZ, HIGH_HZ))
    mels = torch.linspace(low, high, MELS + 2, dtype=torch.float64)
    edges = 700 * (10 ** (mels / 2595) - 1)
    places = torch.arange(size // 2 + 1, dtype=torch.float64)[:, None] * (rate / size)
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp_min(0)
    # A band that is narrower than the transform's lines must not miss them all.
    nearest = (edges[1:-1] * (size / rate)).round().long()
    triangles[nearest, torch.arange(MELS)] = triangles[nearest, torch.arange(MELS)].clamp_min(0.05)
    return triangles
