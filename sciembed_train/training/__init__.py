"""Runs: trainer, callbacks, run folder, resume, report."""
