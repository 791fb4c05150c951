"""Metrics, rankings and benchmarks."""
