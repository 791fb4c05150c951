"""Checkpoints as folders that other libraries load."""
