"""Many benchmarks and models in one table."""
