"""Reading and writing encoders: folders and checkpoints."""
