"""Input text: how a paper or a document becomes token ids."""
