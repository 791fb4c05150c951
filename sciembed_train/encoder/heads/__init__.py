"""Heads on top of the encoder."""
