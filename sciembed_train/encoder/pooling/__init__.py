"""Poolings: modules that make vectors of a backbone's hidden states."""
