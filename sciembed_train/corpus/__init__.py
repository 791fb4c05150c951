"""Turns users' files into a validated, integer-keyed corpus."""
