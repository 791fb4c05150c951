"""Hard negatives mined by an encoder: near a paper by its vectors, unrelated by its citations."""
