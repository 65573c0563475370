# ruff: noqa: E501 - a table, a line each
"""Edits of what runs compute, which must all be noticed: (what, arm, file below the repository, text, other text).

The arm is one whose result the edit may change. `VALUES` are edits of the values that arms are made of, which are read
from the imported module; all others are read from the source.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One edit. `text` stands in the file; its first occurrence becomes `other`."""

    what: str
    arm: str
    file: str
    text: str
    other: str

    @property
    def path(self) -> str:
        """The file, from the repository's root."""
        return (
            self.file if "/" not in self.file or self.file.startswith("src") else f"src/leandnn/{self.file}"
        )


MUTANTS = [
    Mutant("learning rate at the end of its schedule", "bf16-vision/fp32", "train/schedules.py",
           "(1.0 - rest) if", "max(0.01, 1.0 - rest) if"),
    Mutant("warm-up of one_cycle", "rbgp-patterns/rbgp4", "train/schedules.py", "max(warmup, 0.2)", "max(warmup, 0.21)"),
    Mutant("weight decay spares biases", "bf16-speech/bf16", "train/optimizer.py",
           "/ f if decays else 0.0", "/ f if decays else 1e-5"),
    Mutant("weight decay of a study", "hbsnn-patterns/hierarchical", "blocksparse/baselines.py",
           "weight_decay=5e-4", "weight_decay=4e-4"),
    Mutant("momentum of batch norm", "blocksparse-baselines/dense", "models/vgg_small.py",
           "nn.BatchNorm2d(outputs)", "nn.BatchNorm2d(outputs, momentum=0.2)"),
    Mutant("offset of the crop", "autosparse-methods/str", "data/image_batches.py",
           "torch.randint(-augment.shift, augment.shift + 1,", "torch.randint(-augment.shift, augment.shift,"),
    Mutant("padding of the crop", "huffman-compression/huffman", "data/image_batches.py", "shift: int = 4", "shift: int = 3"),
    Mutant("seed of an epoch's order", "bf16-vision/bf16", "data/cifar.py", "spawn_key=place", "spawn_key=place[:1]"),
    Mutant("seed given to torch", "bf16-language/fp32", "machine/determinism.py",
           "torch.manual_seed(seed)", "torch.manual_seed(seed + 1)"),
    Mutant("seed handed to the arm", "rbgp-connectivity/hadamard", "studies/outcome.py",
           "Scale(run.seed,", "Scale(run.seed % 2,"),
    Mutant("which images are evaluated", "blocksparse-sparsities/block8x8_75", "data/cifar.py",
           "np.arange(classes) < count % classes", "np.arange(classes) <= count % classes"),
    Mutant("ties between equal scores", "blocksparse-baselines/unstructured", "blocksparse/saliency.py",
           "np.cumsum(tied, axis=1) <= room", "np.cumsum(tied, axis=1) < room"),
    Mutant("window of the pruning", "blocksparse-baselines/block4x4", "blocksparse/prune.py",
           "end: float = 0.6", "end: float = 0.65"),
    Mutant("pruning at full length only", "hbsnn-selection/gradient", "blocksparse/prune.py",
           "passed * self.times + 1e-9", "passed * self.times + 1e-3"),
    Mutant("α in its last tenth", "autosparse-methods/autosparse", "autosparse/method.py",
           "zero_from: float | None = 0.9", "zero_from: float | None = 0.95"),
    Mutant("ramp of the thresholds", "autosparse-requested/autosparse_90", "autosparse/target.py",
           "1 - progress / end", "1 - progress / (end + 0.01)"),
    Mutant("last partial batch", "bf16-vision/fp32", "data/image_batches.py",
           "return len(self._labels) // self.batch_size", "return -(-len(self._labels) // self.batch_size)"),
    Mutant("rounding mode of a policy", "bf16-recommendation/bf16", "bf16/policy.py",
           'cls, fmt: str, mode: str = "nearest_even"', 'cls, fmt: str, mode: str = "toward_zero"'),
    Mutant("bias of the format", "bf16-contrasts/fp16", "kernels/rounding/format.py",
           "(1 << (self.exponent_bits - 1)) - 1", "(1 << (self.exponent_bits - 1)) - 2"),
    Mutant("constant in a header", "rbgp-patterns/rbgp4", "kernels/panels/cpu/panels.hpp",
           "PANELS_WIDTH = 48", "PANELS_WIDTH = 32"),
    Mutant("order of a kernel's sums", "rbgp-wide_resnet/rbgp4_75", "kernels/panels/cpu/product.inc",
           "acc[0][l][n] = sum[l][n]", "acc[U - 1][l][n] = sum[l][n]"),
    Mutant("fused multiply-add", "bf16-vision/bf16", "CMakeLists.txt", "-ffp-contract=fast", "-ffp-contract=off"),
    Mutant("build type", "rbgp-sparsities/rbgp4_75", "pyproject.toml",
           'cmake.build-type = "Release"', 'cmake.build-type = "Debug"'),
    Mutant("instruction set that not every CPU runs", "bf16-generative/bf16", "kernels/rounding/cpu/avx512.cpp",
           "LEANDNN_LANES 16", "LEANDNN_LANES 8"),
    Mutant("path without any instruction set", "huffman-compression/huffman", "kernels/huffman/cpu/streams.inc",
           "int ", "long "),
    Mutant("readable rounding where no kernel is built", "bf16-speech/bf16", "kernels/rounding/reference.py",
           "return ", "return +"),
    Mutant("temperature of distillation", "rbgp-distillation/distilled", "tasks/distillation.py",
           "temperature**2 * F.kl_div", "temperature * F.kl_div"),
    Mutant("bits of a codebook", "huffman-compression/huffman", "huffman/quantise.py",
           "(1 << bits) - 1", "(1 << bits) - 2"),
    Mutant("interval of RigL in its default", "autosparse-others/rigl-erk", "autosparse/masks.py",
           "self.updates % self.interval", "(self.updates + 1) % self.interval"),
    Mutant("lifts of a graph", "rbgp-patterns/rbgp4", "rbgp/lifts.py",
           "np.random.Philox(seed)", "np.random.Philox(seed + 1)"),
    Mutant("loss of the judge", "bf16-generative/fp32", "tasks/image_metrics.py", "return ", "return 1 * "),
    Mutant("clipping of gradients", "bf16-language/bf16", "train/loop.py",
           "settings.clip_norm is not None", "settings.clip_norm is None"),
    Mutant("what a metric's trace averages", "bf16-transformer/fp32", "train/loop.py",
           "float(self.trace_sum) / (", "float(self.trace_sum) / (1 + "),
    Mutant("bytes that are counted", "hbsnn-sizes/32x36_4x1", "blocksparse/index_bits.py", "return ", "return 2 * "),
    Mutant("ImageNet's crop", "autosparse-imagenet/resnet50-dense", "data/imagenet.py", "[0.08, 1.0]", "[0.25, 1.0]"),
]  # fmt: skip

VALUES = [
    Mutant("learning rate of a domain", "bf16-vision/fp32", "bf16/domains/vision.py", "lr=0.4", "lr=0.3"),
    Mutant("interval of RigL by one", "autosparse-others/rigl-erk", "autosparse/study.py",
           "INTERVAL = 50", "INTERVAL = 51"),
    Mutant("α of Top-K", "autosparse-topk/topk", "autosparse/study.py", "TOPK_ALPHA = 0.25", "TOPK_ALPHA = 0.3"),
    Mutant("density of a hierarchy", "hbsnn-division/half_quarter", "hbsnn/study.py",
           "densities=(1 / 2, 1 / 4)", "densities=(1 / 4, 1 / 2)"),
    Mutant("format of a policy", "bf16-contrasts/fp16-loss-scaling", "bf16/policy.py",
           'cls._flow("fp16", loss_scaling=True)', 'cls._flow("bf16", loss_scaling=True)'),
    Mutant("share of a phase", "huffman-compression/huffman", "huffman/study.py",
           'Phase("control", 0.30, 0.08', 'Phase("control", 0.31, 0.08'),
    Mutant("width of a recommender", "bf16-recommendation/fp32", "bf16/domains/recommendation.py",
           "functools.partial(DLRM, SIZES, width=8)", "functools.partial(DLRM, SIZES, width=9)"),
]  # fmt: skip

# (what, stage of build/digests/, file, text, other text): of stages that train nothing.
STAGES = [
    Mutant("constant of a generator", "data", "data/clicks_synthesis.py", "bytes_.sum(-1) - 1020", "bytes_.sum(-1) - 1021"),
    Mutant("noise of the speech", "data-digits", "data/speech_synthesis.py", "return ", "return 2 * "),
    Mutant("training of the judge", "features", "tasks/image_judge.py", "lr=0.4", "lr=0.3"),
]  # fmt: skip

# Edits that change nothing: no digest may.
NEUTRAL = [
    Mutant("comment", "bf16-vision/bf16", "train/loop.py", "import dataclasses\n", "import dataclasses  # a comment\n"),
    Mutant("docstring", "bf16-vision/bf16", "train/loop.py", '"""Train a task to the end', '"""Train it to the end'),
    Mutant("annotation", "bf16-vision/bf16", "train/loop.py", "def restore(self) -> None:", "def restore(self) -> object:"),
    Mutant("formatting", "bf16-vision/bf16", "train/schedules.py", "if progress < warmup:", "if (progress <\n            warmup):"),
    Mutant("wording of an error", "bf16-vision/bf16", "train/schedules.py", "is unknown, expected one of", "unknown; expected"),
    Mutant("comment in a header", "rbgp-patterns/rbgp4", "kernels/panels/cpu/panels.hpp", "#pragma once", "// words\n#pragma once"),
    Mutant("comment in the build", "rbgp-patterns/rbgp4", "CMakeLists.txt", "set(units)", "set(units)  # none yet"),
    Mutant("another room's kernels", "bf16-vision/bf16", "kernels/panels/cpu/panels.hpp", "PANELS_WIDTH = 48", "PANELS_WIDTH = 32"),
    Mutant("products that masks do not reach", "hbsnn-patterns/hierarchical", "kernels/panels/cpu/panels.hpp", "PANELS_WIDTH = 48", "PANELS_WIDTH = 32"),
    Mutant("another wing's method", "rbgp-patterns/rbgp4", "autosparse/method.py", "zero_from: float | None = 0.9", "zero_from: float | None = 0.8"),
    Mutant("a function that it does not reach", "bf16-vision/bf16", "data/cifar.py", "_BLOCK = 1024", "_BLOCK = 512"),
]  # fmt: skip
