"""Nearest papers of stored vectors: an index of them, questions to it, and a page to try it."""
