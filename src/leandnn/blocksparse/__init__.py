"""Sparse layers whose parameters are their non-zeros: patterns, layers, conversion of dense models."""

from leandnn.blocksparse.convert import convert, to_dense
from leandnn.blocksparse.layers import BlockSparseConv2d, BlockSparseLinear
from leandnn.blocksparse.pattern import Pattern

__all__ = ["BlockSparseConv2d", "BlockSparseLinear", "Pattern", "convert", "to_dense"]
