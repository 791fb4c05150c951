"""Validation scores of held-out examples, by kind of example."""
