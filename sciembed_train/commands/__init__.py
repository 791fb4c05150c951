"""Thin commands: parse the words, call the library, print."""
