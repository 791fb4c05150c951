"""Which texts meet: each example a pure function of (seed, epoch, index)."""
