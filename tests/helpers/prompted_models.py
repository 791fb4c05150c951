"""Folders of sentence-transformers with prompts, of tiny random backbones."""

import json
import shutil

PROMPTS = {"query": "word1 query: ", "passage": "word2 passage: ", "Clustering": "word3: "}


def write_prompted(backbone, folder, pooling="mean", prompts=PROMPTS, include_prompt=True, **about):
    """A copy of a backbone's folder as a model of the library, with these prompts."""
    shutil.copytree(backbone, folder)
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    rows = [{"idx": i, "name": str(i), **module} for i, module in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "1_Pooling").mkdir()
    mode = {f"pooling_mode_{'mean_tokens' if pooling == 'mean' else 'cls_token'}": True}
    config = {"word_embedding_dimension": 32, **mode, "include_prompt": include_prompt}
    (folder / "1_Pooling/config.json").write_text(json.dumps(config))
    length = json.dumps({"max_seq_length": 40, "do_lower_case": False})
    (folder / "sentence_bert_config.json").write_text(length)
    named = json.dumps({"prompts": prompts, **about})
    (folder / "config_sentence_transformers.json").write_text(named)
    return folder
