"""Contrastive training of encoders for scientific papers."""

__version__ = "0.1.0"
