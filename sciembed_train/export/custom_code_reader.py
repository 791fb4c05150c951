"""A script: embeddings as a user of ``transformers`` gets them with a model's own code.

It runs in a separate process, so that this program never runs a model's code, and leaves no copy
of it in the user's cache. Arguments: a file with a JSON list of texts, the file to write, ``cls``
or ``mean``, the models' folders.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging


def main() -> None:
    """Write the texts' truncated token ids and their vectors, for each model."""
    texts_file, to, pooling, *folders = sys.argv[1:]
    texts = json.loads(Path(texts_file).read_text("utf-8"))
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.save([model_outputs(folder, texts, pooling) for folder in folders], to)


def model_outputs(folder: str, texts: list[str], pooling: str) -> dict:
    """Token ids and vectors of one model."""
    # In transformers 5 the tokenizer too asks whether the model's code is trusted.
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=True)
    loaded = AutoModel.from_pretrained(
        folder, local_files_only=True, trust_remote_code=True, output_loading_info=True
    )
    model, info = loaded
    if any(info.values()):
        raise ValueError(f"some weights are missing or left over: {info}")
    vectors = []
    with torch.inference_mode():
        # Two at a time, so that padding is tested.
        for start in range(0, len(texts), 2):
            batch = tokenizer(
                texts[start : start + 2], padding=True, truncation=True, return_tensors="pt"
            )
            output = model.eval()(**batch)
            hidden, mask = output.last_hidden_state, batch["attention_mask"].unsqueeze(-1)
            if not torch.equal(hidden[:, 0], output.pooler_output):
                raise ValueError("last_hidden_state[:, 0] is not pooler_output")
            mean = (hidden * mask).sum(1) / mask.sum(1)
            vectors.append(output.pooler_output if pooling == "cls" else mean)
    ids = tokenizer(texts, truncation=True)["input_ids"]
    return {"ids": ids, "vectors": torch.cat(vectors).float().clone()}


if __name__ == "__main__":
    main()
