"""What is run for paper 4: the shared net pruned to hierarchical patterns (our interpretation of HBsNN).

Dense, unstructured and block-sparse nets are made once, by blocksparse/study.py, from the same seeds on the same
data with the same settings; claims and figures call them "blocksparse/baselines/…" and "blocksparse/sparsities/…".
The arms here differ from them in the rule of the pruning alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from leandnn.blocksparse import baselines
from leandnn.blocksparse.prune import Select
from leandnn.data import cifar
from leandnn.hbsnn.gradual import Window, gradual
from leandnn.hbsnn.selection import Size
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Scale, Trial, by_name

COARSE: Size = (16, 12)  # divides every layer of the shared net
FINE: Size = (4, 1)  # four rows share their columns, as the panel kernels want it; columns are free


@dataclass(frozen=True)
class Form:
    """A kind of hierarchical pattern, and how it is found: arguments of gradual.gradual."""

    blocks: tuple[Size, ...] = (COARSE, FINE)
    densities: tuple[float, ...] = (3 / 4, 1 / 6)
    saliency: str | tuple[str, ...] = "l1"
    share: str = "parent"
    windows: tuple[Window, ...] | None = None

    def select(self, seed: int) -> Select:
        """The rule for a GradualPruning hook."""
        return gradual(
            self.blocks,
            self.densities,
            saliency=self.saliency,
            share=self.share,
            windows=self.windows,
            seed=seed,
        )


_THREE: tuple[Size, ...] = (COARSE, (4, 4), (1, 1))
# All at 87.5 % zeros, unless the name says _75 or _93 (93.75 %). Every density is met exactly in every layer.
PATTERNS = {"hierarchical": Form()}
SPARSITIES = {
    "hierarchical_75": Form(densities=(3 / 4, 1 / 3)),
    "hierarchical_93": Form(densities=(3 / 4, 1 / 12)),
    "three_levels_75": Form(_THREE, (3 / 4, 2 / 3, 1 / 2)),
    "three_levels_87": Form(_THREE, (3 / 4, 2 / 3, 1 / 4)),
    "three_levels_93": Form(_THREE, (3 / 4, 1 / 3, 1 / 4)),
}
# How the density is divided between the levels; "flat": all of it to the small blocks, without large ones.
DIVISION = {
    "half_quarter": Form(densities=(1 / 2, 1 / 4)),
    "quarter_half": Form(densities=(1 / 4, 1 / 2)),
    "flat": Form((FINE,), (1 / 8,)),
}
SIZES = {
    "16x12_1x1": Form((COARSE, (1, 1))),
    "16x12_4x4": Form((COARSE, (4, 4))),
    "16x12_8x1": Form((COARSE, (8, 1))),
    "32x36_4x1": Form(((32, 36), FINE)),
    "4x4_1x1": Form(((4, 4), (1, 1)), (1 / 2, 1 / 4)),
}
# Which blocks are kept, and when.
SELECTION = {
    "l2": Form(saliency="l2"),
    "gradient": Form(saliency="gradient"),
    "random": Form(saliency="random"),
    "random_coarse": Form(saliency=("random", "l1")),
    "per_level": Form(share="level"),
    "together": Form(windows=((0.0, 1.0), (0.0, 1.0))),
    "one_by_one": Form(windows=((0.0, 0.5), (0.5, 1.0))),
}
FORMS: Mapping[str, Form] = {**PATTERNS, **SPARSITIES, **DIVISION, **SIZES, **SELECTION}


def _pruned(form: Form, budget: Budget, scale: Scale, images: cifar.Pair | None = None) -> Trial:
    """The shared net, pruned to a form."""
    return baselines.trial(budget, scale, images, hooks=baselines.pruning(form.select(scale.seed)))


def _comparison(name: str, forms: Mapping[str, Form]) -> Comparison:
    return Comparison("hbsnn", name, {arm: functools.partial(_pruned, form) for arm, form in forms.items()})


COMPARISONS = by_name(
    _comparison("patterns", PATTERNS),
    _comparison("sparsities", SPARSITIES),
    _comparison("division", DIVISION),
    _comparison("sizes", SIZES),
    _comparison("selection", SELECTION),
)
