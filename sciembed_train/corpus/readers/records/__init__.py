"""Formats of records: one file and one line of `record_registry` each."""
