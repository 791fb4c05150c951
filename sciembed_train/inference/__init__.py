"""Using a trained encoder: embedding, matching, alignment. No Lightning."""
