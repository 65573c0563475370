"""How good generated images are: Fréchet distance, an inception-style score, PSNR and SSIM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leandnn.errors import LeandnnError
from leandnn.machine import libraries

Matrix = npt.NDArray[np.float64]


@contextmanager
def plain_fp32(device: torch.device) -> Iterator[None]:
    """Compute what is in the block in ordinary FP32, whatever surrounds it.

    An arm's arithmetic (torch-function modes such as bf16.emulate, autocast) must decide which images a net makes,
    and not how they are measured.
    """
    with torch._C.DisableTorchFunction(), torch.autocast(device.type, enabled=False):
        yield


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean (D,) and covariance (D, D) of features, float64."""

    mean: Matrix
    covariance: Matrix

    @classmethod
    def of(cls, features: Tensor) -> Gaussian:
        """The Gaussian of features (N, D), N at least 2 (ValueError), with the unbiased covariance."""
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(f"features are {tuple(features.shape)}, expected (N, D) with N of at least 2")
        x = features.detach().cpu().double().numpy()
        mean = x.mean(axis=0)
        centred = x - mean
        return cls(mean, centred.T @ centred / (len(x) - 1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared Fréchet distance of two Gaussians: |mₐ - m_b|² + tr(Cₐ + C_b - 2 (Cₐ C_b)^½), at least 0.

    Heusel et al. (2017, arXiv 1706.08500, equation 6), who take features of Inception v3. The trace of the root is
    the sum of the square roots of the eigenvalues of Cₐ^½ C_b Cₐ^½, which is symmetric: all stays real, and a
    covariance without full rank does no harm. ValueError where the numbers of features differ.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"Gaussians have {len(a.mean)} and {len(b.mean)} features, expected as many")
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ b.covariance @ root).clip(0.0)).sum()
    apart = float(((a.mean - b.mean) ** 2).sum())
    spread = float(np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * overlap)
    return max(0.0, apart + spread)


def inception_style_score(logits: Tensor) -> float:
    """exp(mean over images of KL(p(y|x) ‖ p(y))), in [1, classes]: sure of each image, and all classes in use.

    Salimans et al. (2016, arXiv 1606.03498, section 4), who take Inception's classes and the mean of ten parts; here
    it is one part.

    - logits: (N, classes) of a classifier.
    """
    log_p = logits.detach().cpu().double().log_softmax(1)
    p = log_p.exp()
    log_mean = p.mean(0).clamp_min(torch.finfo(torch.float64).tiny).log()
    return float((p * (log_p - log_mean)).sum(1).mean().exp())


def psnr(found: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, the mean over images, by torchmetrics.

    - found, truth: (N, 3, H, W) in [0, 1]; all three channels count.

    LeandnnError where torchmetrics is not installed.
    """
    ratios = _torchmetrics().peak_signal_noise_ratio(
        found, truth, data_range=(0.0, 1.0), reduction="elementwise_mean", dim=(1, 2, 3)
    )
    return float(ratios)


def ssim(found: Tensor, truth: Tensor) -> float:
    """Structural similarity (Wang et al. 2004: Gaussian window, σ 1.5), the mean over images, by torchmetrics.

    - found, truth: as for psnr.
    """
    similarity = _torchmetrics().structural_similarity_index_measure
    parts = [
        similarity(a, b, data_range=(0.0, 1.0), reduction="none")
        for a, b in zip(found.split(500), truth.split(500), strict=True)
    ]
    return float(torch.cat(parts).double().mean())


def _torchmetrics() -> Any:
    """Its image functions. It imports torchvision, which may need help (see libraries.torchvision_operators)."""
    try:
        libraries.torchvision_operators()
        from torchmetrics.functional import image
    except ImportError as error:
        raise LeandnnError("PSNR and SSIM need torchmetrics: run `pip install torchmetrics`") from error
    return image
