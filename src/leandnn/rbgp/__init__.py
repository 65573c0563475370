"""Paper 3, RBGP (arXiv 2006.13486): sparse networks from products of Ramanujan bipartite graphs."""

from leandnn.rbgp.construction import rbgp4
from leandnn.rbgp.graphs import BipartiteGraph, product
from leandnn.rbgp.lifts import ramanujan

__all__ = ["BipartiteGraph", "product", "ramanujan", "rbgp4"]
