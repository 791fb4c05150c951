"""How texts are paired: each example is a pure function of (seed, epoch, index)."""
