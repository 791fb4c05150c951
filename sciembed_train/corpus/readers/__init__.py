"""Readers: rows of every format of file, each with its place."""
