"""The corpus folder and its memory-mapped token stores."""
