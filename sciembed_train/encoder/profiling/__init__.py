"""What encoding takes: memory, operations, time."""
