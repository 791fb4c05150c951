"""Users' files into a validated, integer-keyed corpus."""
