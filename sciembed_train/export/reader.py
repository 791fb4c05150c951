"""Run by itself: embeddings as a user of ``transformers`` gets them who trusts a model's own code.

A process of its own, so that this program never runs a model's code, and leaves no copy of it in
the user's cache. Arguments: the model's folder, a JSON list of texts, the file to write.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging


def main() -> None:
    """Write the texts' token ids, cut, and their vectors."""
    folder, texts, to = sys.argv[1], json.loads(Path(sys.argv[2]).read_text("utf-8")), sys.argv[3]
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    loaded = AutoModel.from_pretrained(
        folder, local_files_only=True, trust_remote_code=True, output_loading_info=True
    )
    model, info = loaded
    if any(info.values()):
        raise ValueError(f"some weights are missing or left over: {info}")
    vectors = []
    with torch.inference_mode():
        # Two at a time, so that padding takes part.
        for start in range(0, len(texts), 2):
            batch = tokenizer(
                texts[start : start + 2], padding=True, truncation=True, return_tensors="pt"
            )
            found = model.eval()(**batch)
            if not torch.equal(found.last_hidden_state[:, 0], found.pooler_output):
                raise ValueError("last_hidden_state[:, 0] is not pooler_output")
            vectors.append(found.pooler_output)
    ids = tokenizer(texts, truncation=True)["input_ids"]
    torch.save({"ids": ids, "vectors": torch.cat(vectors).float().clone()}, to)


if __name__ == "__main__":
    main()
