"""Splitting texts into micro-batches and encoding them."""
