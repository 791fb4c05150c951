"""Token rows to embeddings."""
