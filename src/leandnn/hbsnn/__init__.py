"""Paper 4, HBsNN (arXiv 1808.03420): blocks inside blocks. The definition is our interpretation, see selection.py."""

from leandnn.hbsnn.selection import hierarchical

__all__ = ["hierarchical"]
