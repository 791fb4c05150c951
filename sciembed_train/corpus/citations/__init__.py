"""Citing sentences: who is cited together, and where a sentence mentions a citation."""
