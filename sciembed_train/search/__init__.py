"""Nearest papers by stored vectors: an index of them, queries to it, and a page to try it."""
