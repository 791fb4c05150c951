"""Every method from a ModernBERT: steps, resume, gradient cache, shared weights and export."""

import json

import pytest

from sciembed_train.commands import fit
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from tests.helpers import training
from tests.helpers.citation_corpus import write_citation_corpus
from tests.helpers.cocitation_corpus import write_cocitation_corpus, write_sentence_corpus
from tests.helpers.document_files import write_document_corpus
from tests.helpers.processes import run_ranks
from tests.helpers.runs import CONFIGS, losses
from tests.helpers.sentence_pair_corpus import write_citing_corpus
from tests.helpers.sharded_training import CHECKPOINTED, VARIANTS, on_a_rank
from tests.helpers.small_corpus import write_small_corpus
from tests.helpers.task_files import write_tasks
from tests.helpers.training import difference, small_corpus


def write_citing(corpus, tokenizer):
    write_citing_corpus(corpus.parent, tokenizer)  # it names the corpus's folder itself


SPANS = ["--data.sampling.max_span", "16", "--data.sampling.min_span", "4"]
# A recipe of each method, what writes a corpus for it, and more words.
RECIPES = {
    "specter": (write_small_corpus, {}, []),
    "declutr_small": (write_document_corpus, {}, SPANS),
    "own_citations": (write_citation_corpus, {"input_format": InputFormat(separator="space")}, []),
    "aspire_cocite_compsci_spec": (
        write_cocitation_corpus,
        {"input_format": InputFormat(sentences="sep")},
        [],
    ),
    "aspire_ts_compsci": (write_sentence_corpus, {}, []),
    "aspire_ot_compsci": (write_sentence_corpus, {}, []),
    "aspire_sentence": (write_citing, {}, []),
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*"
)


def words(recipe, corpus, backbone, root, *more):
    return [
        *("-c", str(CONFIGS / f"{recipe}.yaml"), "-c", str(CONFIGS / "machine" / "cpu.yaml")),
        *("--data.corpus", str(corpus), *RECIPES[recipe][2]),
        *("--model.encoder.backbone", str(backbone), "--data.batch_size", "8"),
        *("--trainer.max_steps", "4", "--trainer.log_every_n_steps", "1"),
        *("--root", str(root), "--verdict", "off", "--quiet", *more),
    ]


@pytest.mark.parametrize(
    "recipe",
    [name if name == "specter" else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES],
)
def test_a_recipe_steps_resumes_and_exports(recipe, tiny_modernbert, tmp_path):
    write, values, _ = RECIPES[recipe]
    write(tmp_path / "corpus", tiny_modernbert, **values)
    given = recipe, tmp_path / "corpus", tiny_modernbert, tmp_path / "runs"
    assert fit.main(words(*given, "--run", "whole")) == 0
    callback = "--trainer.callbacks"
    stop = [callback, "tests.helpers.runs.StopAt", f"{callback}.step", "2"]
    assert fit.main(words(*given, "--run", "stopped", "--no_export", *stop)) == 143
    rest = ["--run", "stopped", "--no_export", "--ckpt_path", "last"]
    assert fit.main(words(*given, *rest)) == 0
    whole = tmp_path / "runs" / "whole"
    assert sorted(losses(whole)) == [1, 2, 3, 4]
    assert losses(tmp_path / "runs" / "stopped") == losses(whole)
    encoder = Encoder.load(whole / "export")
    assert encoder.unpadded
    # 8192 in the tokenizer's files of the start.
    assert json.loads((whole / "export" / "sciembed.json").read_text())["max_length"] <= 512


def test_adapters_are_refused_before_a_step(tiny_modernbert, tmp_path):
    pytest.importorskip("adapters")
    tasks = write_tasks(tmp_path / "tasks", {"mesh": 40})
    given = ["-c", str(CONFIGS / "own_adapter.yaml"), "--data.tasks", str(tasks), "--quiet"]
    backbone = ["--model.encoder.backbone", str(tiny_modernbert), "--root", str(tmp_path / "runs")]
    with pytest.raises(UserError, match=r"adds layers\.0\.attn\.Wqkv\.bias"):
        fit.main([*given, *backbone, "--data.dev_share", "0.2", "--data.batch_size", "8"])


@pytest.fixture(scope="module")
def places(tiny_modernbert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("modernbert")
    write_document_corpus(folder / "documents", tiny_modernbert)
    write_cocitation_corpus(folder / "cocited", tiny_modernbert)
    corpora = {
        "training": small_corpus(folder, tiny_modernbert),
        "span_training": folder / "documents",
        "pair_training": folder / "cocited",
    }
    return {f"tests.helpers.{k}": (str(v), str(tiny_modernbert)) for k, v in corpora.items()}


@pytest.mark.parametrize("name", ["spans, cut", "pairs, cut"])
def test_the_gradient_cache_makes_the_gradients_of_whole_batches(places, name):
    module, settings = VARIANTS[name]
    corpus, backbone = places[module.__name__]
    found = []
    for tokens in (None, settings["max_tokens_per_backward"]):
        changed = {**settings, "max_tokens_per_backward": tokens}
        found.append(module.train(corpus=corpus, backbone=backbone, **changed))
    assert difference(*found, "gradients") < 1e-9
    assert difference(*found, "weights") < 1e-9


@pytest.mark.slow
def test_two_ranks_that_share_the_weights_make_the_steps_of_one_process(places):
    names = [*VARIANTS, CHECKPOINTED]
    alone = training.alone(on_a_rank, places, names)
    for found in run_ranks(2, "tests.helpers.sharded_training", "on_a_rank", places, names):
        for name in names:
            assert difference(found[name], alone[name], "gradients") < 1e-9, name
            assert difference(found[name], alone[name], "weights") < 1e-9, name
            assert all(found[name]["moments are parts"])
