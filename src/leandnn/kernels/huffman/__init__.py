"""Sparse matrices of few values, Huffman-coded: encoding, decoding, and products with the coded matrix."""
