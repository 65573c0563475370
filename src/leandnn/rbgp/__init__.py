"""Paper 3, RBGP (arXiv 2006.13486): sparse networks from products of Ramanujan bipartite graphs."""

from leandnn.rbgp.construction import from_factors, rbgp4, reachable
from leandnn.rbgp.graphs import BipartiteGraph, product
from leandnn.rbgp.lifts import ramanujan
from leandnn.rbgp.sparsify import plan, sparsify

__all__ = ["BipartiteGraph", "from_factors", "plan", "product", "ramanujan", "rbgp4", "reachable", "sparsify"]
