"""Checks what of foreign model folders and checkpoints may reach the libraries that read them.

Nothing here imports ``transformers``; each check comes before that library sees a file.
"""
