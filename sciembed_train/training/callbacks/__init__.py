"""Callbacks of a run, one concern per file; `run_callbacks` puts them together."""
