"""The generated blocks of README.md: filled by `leandnn claims --write`, compared by a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leandnn import paths
from leandnn.claims.verdicts import Result
from leandnn.files import write_text
from leandnn.report import render, tables
from leandnn.report.autosparse import tables as tables_autosparse
from leandnn.report.hbsnn import tables as tables_hbsnn
from leandnn.report.huffman import tables as tables_huffman
from leandnn.report.kernels import tables as tables_speed
from leandnn.report.rbgp import tables as tables_rbgp


def filled(results: Sequence[Result], root: Path = paths.ROOT) -> str:
    """README.md with its blocks filled from claims, reference/ and nothing else."""
    blocks = {
        "claims": render.markdown(results),
        "commands": tables.commands(root),
        "training": tables.training(root),
        "train-step": tables.train_step(root),
        **{name: tables_speed.TABLES[name](root) for name in ("panels", "rounding", "sparse-step")},
        "autosparse": tables_autosparse.autosparse(root),
        "rbgp": tables_rbgp.rbgp(root),
        "hbsnn": tables_hbsnn.hbsnn(root),
        "huffman": tables_huffman.huffman(root),
    }
    return render.fill_blocks((root / "README.md").read_text(encoding="utf-8"), blocks)


def write(results: Sequence[Result], root: Path = paths.ROOT) -> None:
    """Fill README.md in place."""
    write_text(root / "README.md", filled(results, root))
