"""Tiny random ``...ForMaskedLM`` folders of every model type whose head is known."""

from pathlib import Path

from tests.helpers.tiny_models import (
    modernbert_config,
    write_tiny_bert,
    write_tiny_modernbert,
    write_tiny_roberta,
)

# Of each model type: its class's name, and settings that make it tiny.
_COMMON = {"vocab_size": 280, "max_position_embeddings": 514}
_BERT = {
    **_COMMON,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
_ROBERTA = {**_BERT, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
TYPES: dict[str, tuple[str, dict]] = {
    "bert": ("Bert", _BERT),
    "camembert": ("Camembert", _ROBERTA),
    "distilbert": (
        "DistilBert",
        {**_COMMON, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    ),
    "electra": ("Electra", {**_BERT, "embedding_size": 16}),
    "modernbert": ("ModernBert", {"vocab_size": 280}),
    "mpnet": ("MPNet", _ROBERTA),
    "roberta": ("Roberta", _ROBERTA),
    "xlm-roberta": ("XLMRoberta", _ROBERTA),
}
_OFFSET = {"camembert", "mpnet", "roberta", "xlm-roberta"}


def write_masked_lm(folder: Path, kind: str, seed: int = 0) -> Path:
    """A folder as published models have it: a ``...ForMaskedLM`` and its tokenizer."""
    import torch
    import transformers

    tokenizers = dict.fromkeys(_OFFSET, write_tiny_roberta) | {"modernbert": write_tiny_modernbert}
    tokenizers.get(kind, write_tiny_bert)(folder)
    if kind == "distilbert":  # has no token types, and its own tokenizer gives none
        (folder / "tokenizer_config.json").unlink()
        transformers.DistilBertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    name, sizes = TYPES[kind]
    make = modernbert_config if kind == "modernbert" else getattr(transformers, f"{name}Config")
    config = make(**sizes)
    torch.manual_seed(seed)
    model = getattr(transformers, f"{name}ForMaskedLM")(config)
    with torch.no_grad():  # LayerNorms and biases too: their place in the sum must be tested
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    model.save_pretrained(folder)
    return folder


def gradients_on_a_rank(folder: str, ids: list[int], lengths: list[int], masked: list[list[int]]):
    """Gradients of one step in DDP; each rank predicts its own masked tokens, or none."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    from sciembed_train.batch import TokenRows
    from sciembed_train.encoder.encoder import Encoder, EncoderSettings

    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            settings = EncoderSettings(folder, "mean", 64, dropout=0.0)
            self.encoder = Encoder(settings, masked_lm=True).double()

        def forward(self, rows, positions):
            vectors, states = self.encoder.with_token_states(rows, positions)
            return self.encoder.token_logits(states).square().sum() + vectors.square().sum()

    ranks, mine = (dist.get_world_size(), [dist.get_rank()]) if dist.is_initialized() else (1, [])
    step = Step()
    model = DistributedDataParallel(step) if ranks > 1 else step
    rows = TokenRows(torch.tensor(ids), torch.tensor(lengths))
    for rank in mine or range(len(masked)):
        positions = torch.tensor(masked[rank], dtype=torch.long)
        (model(rows, positions) / len(masked)).mul(ranks).backward()
    return {name: p.grad.numpy() for name, p in step.encoder.named_parameters()}
