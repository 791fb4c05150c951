"""What of foreign model folders and checkpoints is let through to the libraries that read them.

Nothing here imports ``transformers``; each check comes before that library sees a file.
"""
