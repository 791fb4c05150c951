"""Readers of every format of file: one file and one line of `registry` each."""
