"""A decoder fine-tuned on citations by low-rank updates: steps, resume, exports, vectors."""

import json

import numpy as np
import pytest
import torch

from sciembed_train import cli
from sciembed_train.commands import fit
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.encoder.adapters.lora_settings import LoraSettings
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.encoder_checkpoint import encoder_from_checkpoint
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.citation_pairs import CitationPairSampling
from sciembed_train.sampling.pair_sources import SourceWeights
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers import training
from tests.helpers.citation_corpus import write_citation_corpus
from tests.helpers.contrast_training import EVERYTHING, train
from tests.helpers.document_files import write_document_corpus
from tests.helpers.exact_norms import exact_norms, on_a_rank
from tests.helpers.processes import run_ranks
from tests.helpers.runs import CONFIGS, losses
from tests.helpers.training import difference

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*"
)
TEXTS = ["word1 word2 word3", "word4 " * 30, "word5"]
TASK = "Given a web search query, retrieve relevant passages that answer the query"
QUERY = f"Instruct: {TASK}\nQuery:"
TITLES = ["--model.encoder.input_format.title_prompt", "query"]


def words(recipe, corpus, backbone, root, *more):
    return [
        *("-c", str(CONFIGS / f"{recipe}.yaml"), "-c", str(CONFIGS / "machine" / "cpu.yaml")),
        *("--data.corpus", str(corpus), "--model.encoder.backbone", str(backbone)),
        *("--data.batch_size", "8", "--model.encoder.max_length", "64"),
        *("--trainer.max_steps", "4", "--trainer.log_every_n_steps", "1"),
        *("--root", str(root), "--verdict", "off", "--quiet", *more),
    ]


@pytest.fixture(scope="module")
def runs(tiny_qwen3, tmp_path_factory):
    """A whole run of 4 steps, and one that was stopped after 1 and continued."""
    folder = tmp_path_factory.mktemp("decoder")
    form = InputFormat(separator="space", title_prompt=QUERY)
    write_citation_corpus(folder / "corpus", tiny_qwen3, input_format=form)
    more = ["--model.encoder.lora.rank", "4", "--model.optim.lr", "1e-2", *TITLES]
    given = words("own_citations", folder / "corpus", tiny_qwen3, folder / "runs", *more)
    assert fit.main([*given, "--run", "whole"]) == 0
    callback = "--trainer.callbacks"
    stop = [callback, "tests.helpers.runs.StopAt", f"{callback}.step", "2"]
    stopped = [*given, "--run", "stopped", "--no_export"]
    assert fit.main([*stopped, *stop]) == 143
    assert fit.main([*stopped, "--ckpt_path", "last"]) == 0
    return folder / "runs"


@pytest.mark.slow
def test_a_stopped_run_makes_the_same_steps(runs):
    assert sorted(losses(runs / "whole")) == [1, 2, 3, 4]
    assert losses(runs / "stopped") == losses(runs / "whole")
    state = torch.load(runs / "whole" / "last.ckpt", weights_only=True)["state_dict"]
    updates = {key: value for key, value in state.items() if ".lora_B." in key}
    assert len(updates) == 2 * 7
    assert all(value.abs().max() > 0 for value in updates.values())


def test_the_export_is_used_as_the_start_is(runs, tiny_qwen3):
    encoder, start = Encoder.load(runs / "whole" / "export"), Encoder.load(tiny_qwen3)
    assert encoder.unpadded
    settings = encoder.settings
    assert (settings.pooling, settings.normalize) == ("last", True)
    assert settings.prompts == {"query": QUERY, "document": ""} == start.settings.prompts
    about = runs / "whole" / "export" / "config_sentence_transformers.json"
    assert json.loads(about.read_text())["prompts"] == settings.prompts
    pooling = json.loads((runs / "whole" / "export" / "1_Pooling/config.json").read_text())
    assert pooling["pooling_mode_lasttoken"] is True
    difference = (encoder.encode_texts(TEXTS) - start.encode_texts(TEXTS)).abs().max()
    assert difference > 1e-4


def test_its_vectors_are_of_queries_or_of_papers(runs, tmp_path):
    papers = tmp_path / "papers.jsonl"
    papers.write_text('{"paper_id": "a", "title": "word1 word2", "abstract": "word3"}\n')
    export = str(runs / "whole" / "export")
    found = {}
    for name in ("document", "query"):
        given = ["--input", str(papers), "--to", str(tmp_path / f"{name}.npy"), "--prompt", name]
        assert cli.main(["embed", "--model", export, *given]) == 0
        found[name] = np.load(tmp_path / f"{name}.npy")
    text = "word1 word2 word3"
    wanted = Encoder.load(export).encode_texts([text, QUERY + text]).numpy()
    np.testing.assert_allclose(found["document"], wanted[:1], atol=1e-6)
    np.testing.assert_allclose(found["query"], wanted[1:], atol=1e-6)
    assert abs(found["query"] - found["document"]).max() > 1e-2


def test_the_updates_alone_are_exported_and_loaded_by_peft(runs, tiny_qwen3, tmp_path, capsys):
    from transformers import AutoModel

    given = ["export", str(runs / "whole"), "--to", str(tmp_path / "lora"), "--layout", "lora"]
    assert cli.main(given) == 0
    assert "peft differs by" in capsys.readouterr().out
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_qwen3)
    base = AutoModel.from_pretrained(tiny_qwen3)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "lora").eval()
    checkpoint = runs / "whole" / "best.ckpt"
    merged = encoder_from_checkpoint(torch.load(checkpoint, weights_only=True))
    ids = torch.tensor([merged.tokenizer.rows(["word1 word2"], 64)[0]])
    with torch.no_grad():
        states = model(input_ids=ids).last_hidden_state[:, -1]
    vector = torch.nn.functional.normalize(states)
    assert (vector - merged.encode_texts(["word1 word2"])).abs().max() < 1e-5


def test_titles_are_read_behind_the_prompt_of_queries(runs, tiny_qwen3):
    settings = json.loads((runs / "whole" / "export" / "sciembed.json").read_text())
    assert settings["input_format"]["title_prompt"] == QUERY
    tokenizer, form = TextTokenizer.load(tiny_qwen3), InputFormat.recorded(settings["input_format"])
    pairs = CitationPairSampling(weights=SourceWeights(0.0, 0.0, 1.0, 0.0)).open(
        Corpus.open(runs.parent / "corpus"), TokenizationSpec(tokenizer, form, 600, 0), None
    )
    batch = pairs.batch(np.arange(4), 0, 0)
    texts = [tokenizer.hf.decode(ids) for ids in batch.rows.ids.split(batch.rows.lengths.tolist())]
    assert all(texts[i].startswith(f"{QUERY}word") for i in batch.anchor.tolist())
    assert all(texts[i].startswith("word") for i in batch.positive.tolist())


def test_masked_language_modelling_is_refused(tiny_qwen3, tmp_path):
    write_document_corpus(tmp_path / "corpus", tiny_qwen3)
    more = ["--data.sampling.max_span", "16", "--data.sampling.min_span", "4"]
    given = words("declutr_small", tmp_path / "corpus", tiny_qwen3, tmp_path / "runs", *more)
    with pytest.raises(UserError, match="tokenizer has no mask token"):
        fit.main(given)


def test_a_pooling_of_first_tokens_is_refused(tiny_qwen3, runs):
    corpus = runs.parent / "corpus"
    more = ["--model.encoder.pooling", "cls", "--run", "cls", *TITLES]
    with pytest.raises(UserError, match=r"pooling is cls, but .* is a decoder \(qwen3\)"):
        fit.main(words("own_citations", corpus, tiny_qwen3, runs, *more))


@pytest.fixture(scope="module")
def place(tiny_qwen3, tmp_path_factory):
    folder = tmp_path_factory.mktemp("contrast") / "corpus"
    write_citation_corpus(folder, tiny_qwen3)
    return str(folder), str(tiny_qwen3)


@pytest.mark.parametrize(
    "lora",
    [
        LoraSettings(rank=2, targets=("q_proj", "down_proj")),
        pytest.param(None, marks=pytest.mark.slow),
    ],
)
def test_the_gradient_cache_makes_the_gradients_of_whole_batches(place, lora):
    with exact_norms():
        found = [
            train(*place, **EVERYTHING, lora=lora, max_tokens_per_backward=tokens)
            for tokens in (None, 300)
        ]
    assert difference(*found, "gradients") < 1e-9
    assert difference(*found, "weights") < 1e-9


@pytest.mark.slow
def test_two_ranks_make_the_steps_of_one_process(place):
    names = ["plain", "everything", "split", "nested, split"]
    alone = training.alone(on_a_rank, *place, names)
    for found in run_ranks(2, "tests.helpers.exact_norms", "on_a_rank", *place, names):
        for name in names:
            assert difference(found[name], alone[name], "gradients") < 1e-9, name
            assert difference(found[name], alone[name], "weights") < 1e-9, name
