"""How an encoder is written as a folder of files: one module for each layout."""
