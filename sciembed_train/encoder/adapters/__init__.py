"""Adapters of the AdapterHub library, fusions of them, and control codes."""
