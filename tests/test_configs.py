"""Every shipped recipe is parsed, built and stepped; every machine file is parsed."""

import re

import pytest
import yaml

from sciembed_train.commands import fit
from sciembed_train.corpus.mining.neighbour_settings import NeighbourMining
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.text.input_format import InputFormat
from tests.helpers.citation_corpus import write_citation_corpus
from tests.helpers.cocitation_corpus import write_cocitation_corpus, write_sentence_corpus
from tests.helpers.document_files import write_document_corpus
from tests.helpers.runs import CONFIGS
from tests.helpers.sentence_pair_corpus import write_citing_corpus
from tests.helpers.small_corpus import write_small_corpus
from tests.helpers.task_files import write_tasks

RECIPES = sorted(CONFIGS.glob("*.yaml"))
# Recipes of a method and sampling that another one has too: stepped with --slow.
SIMILAR = re.compile(
    r"specter2_base|scincl|declutr_(base|sci_base)|aspire_.*_biomed.*|.*_scib|aspire_ts(ot)?_.*|aspire_sentence_all"
    # Trained whole by one command in tests/training.
    r"|aspire_cocite_compsci_spec|aspire_(sentence|ot_compsci)|declutr_small|own_adapter|specter2_fusion"
)
STEPPED = [
    pytest.param(recipe, marks=pytest.mark.slow) if SIMILAR.fullmatch(recipe.stem) else recipe
    for recipe in RECIPES
]
MACHINES = sorted((CONFIGS / "machine").glob("*.yaml"))


def names(paths):
    return [path.stem for path in paths]


def printed(capsys, *files):
    words = [word for file in files for word in ("-c", str(file))]
    with pytest.raises(SystemExit) as left:
        fit.main([*words, "--print_config"])
    assert left.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_the_published_recipes_and_the_usual_machines_are_there():
    assert {"specter", "specter2_base", "scincl"} <= set(names(RECIPES))
    assert {"declutr_base", "declutr_small", "declutr_sci_base"} <= set(names(RECIPES))
    ways = [
        f"aspire_cocite_{of}_{start}" for of in ("biomed", "compsci") for start in ("spec", "scib")
    ]
    assert set(ways) <= set(names(RECIPES))
    several = [
        f"aspire_{kind}_{of}" for kind in ("ts", "ot", "tsot") for of in ("biomed", "compsci")
    ]
    assert {*several, "aspire_sentence", "aspire_sentence_all"} <= set(names(RECIPES))
    assert {"specter2_adapters", "specter2_fusion", "own_adapter"} <= set(names(RECIPES))
    assert "own_citations" in names(RECIPES)
    assert {"cpu", "one_gpu", "eight_gpus", "fsdp", "slurm"} <= set(names(MACHINES))


@pytest.fixture(scope="module")
def corpus(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs") / "corpus"
    write_small_corpus(folder, tiny_bert)
    return folder


@pytest.fixture(scope="module")
def cocited(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs") / "cocited"
    write_cocitation_corpus(folder, tiny_bert, input_format=InputFormat(sentences="sep"))
    return folder


@pytest.fixture(scope="module")
def sentenced(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs") / "sentenced"
    write_sentence_corpus(folder, tiny_bert)
    return folder


@pytest.fixture(scope="module")
def documents(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs") / "documents"
    write_document_corpus(folder, tiny_bert)
    return folder


@pytest.fixture(scope="module")
def cited(tiny_bert, tmp_path_factory):
    return write_citing_corpus(tmp_path_factory.mktemp("configs") / "cited", tiny_bert).folder


@pytest.fixture(scope="module")
def citing(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs") / "citing"
    input_format = InputFormat(separator="space")
    return write_citation_corpus(folder, tiny_bert, input_format=input_format).folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A list of one task of classes, and one with a task of every format."""
    folder = tmp_path_factory.mktemp("configs")
    several = {"year_pred": 30, "mesh": 40, "search": 20}
    return {
        "own_adapter": write_tasks(folder / "one", {"mesh": 40}),
        "specter2_adapters": write_tasks(folder / "several", several),
        "specter2_fusion": write_tasks(folder / "every", {**several, "specter": 20}),
    }


@pytest.fixture
def backbone(recipe, tiny_bert, tmp_path):
    """What a recipe begins with: a backbone, or one with adapters."""
    if recipe.stem != "specter2_fusion":
        return tiny_bert
    pytest.importorskip("adapters")
    Encoder(EncoderSettings(str(tiny_bert), adapters=AdapterSettings())).save(tmp_path / "adapted")
    return tmp_path / "adapted"


@pytest.fixture
def of_recipe(recipe, corpus, documents, cocited, sentenced, cited, citing, tasks):
    """A corpus of what the recipe samples, and spans that its small documents have room for."""
    sampling = yaml.safe_load(recipe.read_text())["data"].get("sampling", {}).get("class_path", "")
    if sampling.endswith("TaskSampling"):
        pytest.importorskip("adapters")
        return ["--data.tasks", str(tasks[recipe.stem]), "--data.dev_share", "0.2"]
    if sampling.endswith("SentencePairSampling"):
        return ["--data.corpus", str(sentenced)]
    if sampling.endswith("CitingSentenceSampling"):
        return ["--data.corpus", str(cited)]
    if sampling.endswith("CitationPairSampling"):
        return ["--data.corpus", str(citing)]
    if sampling.endswith("TripletSampling"):
        return ["--data.corpus", str(corpus)]
    if not sampling.endswith("SpanSampling"):
        return ["--data.corpus", str(cocited if sampling else corpus)]
    return [
        *("--data.corpus", str(documents)),
        *("--data.sampling.max_span", "16", "--data.sampling.min_span", "4"),
    ]


# Models whose export is loaded back in processes of their own; these have tests of their own.
SLOW_EXPORT = re.compile(r"aspire_cocite_.*|specter2_adapters|specter2_fusion|own_adapter")


@pytest.mark.parametrize("recipe", STEPPED, ids=names(RECIPES))
def test_a_recipe_is_built_at_toy_size_and_stepped(recipe, of_recipe, backbone, tmp_path):
    exported = not SLOW_EXPORT.fullmatch(recipe.stem)
    code = fit.main(
        [
            *("-c", str(recipe), "-c", str(CONFIGS / "machine" / "cpu.yaml")),
            *(*of_recipe, "--model.encoder.backbone", str(backbone)),
            *("--data.batch_size", "8", "--trainer.max_steps", "3", "--root", str(tmp_path)),
            *("--verdict", "off", "--quiet", *(() if exported else ("--no_export",))),
        ]
    )
    assert code == 0
    run = tmp_path / recipe.stem
    files = {"config.yaml", "metrics.csv", "last.ckpt", "best.ckpt"}
    assert {path.name for path in run.iterdir()} >= files | ({"export"} if exported else set())


# Each recipe with one machine file, in turn, so that every file is used; all pairs with --slow.
PAIRS = [
    pytest.param(
        *(recipe, machine),
        marks=() if number % len(MACHINES) == turn else pytest.mark.slow,
        id=f"{recipe.stem}-{machine.stem}",
    )
    for number, recipe in enumerate(RECIPES)
    for turn, machine in enumerate(MACHINES)
]


@pytest.mark.parametrize(("recipe", "machine"), PAIRS)
def test_a_machine_file_goes_with_a_recipe_and_keeps_its_settings(recipe, machine, capsys):
    alone, both = printed(capsys, recipe), printed(capsys, recipe, machine)
    assert both["data"] == alone["data"]
    assert both["model"]["init_args"]["optim"] == alone["model"]["init_args"]["optim"]
    assert both["model"]["init_args"]["encoder"] == alone["model"]["init_args"]["encoder"]
    assert both["trainer"]["devices"] == yaml.safe_load(machine.read_text())["trainer"]["devices"]


@pytest.mark.parametrize("recipe", RECIPES, ids=names(RECIPES))
def test_a_recipe_opens_with_its_source_and_names_no_device(recipe):
    text = recipe.read_text()
    assert re.match(r"# .*\(20\d\d\)", text)
    assert "Expect:" in text
    assert "docs/methods.md" in text
    device = {"accelerator", "devices", "num_nodes", "strategy", "precision"}
    assert not device & set(yaml.safe_load(text).get("trainer", {}))
    assert "max_tokens_per_backward" not in yaml.safe_load(text)["model"]["init_args"]


@pytest.mark.parametrize("machine", MACHINES, ids=names(MACHINES))
def test_a_machine_file_names_nothing_of_the_experiment(machine):
    content = yaml.safe_load(machine.read_text())
    assert set(content) <= {"trainer", "model"}
    allowed = {"accelerator", "devices", "num_nodes", "strategy", "precision"}
    assert set(content["trainer"]) <= allowed
    assert set(content.get("model", {}).get("init_args", {})) <= {"max_tokens_per_backward"}


def test_specter_is_the_papers(capsys):
    found = printed(capsys, CONFIGS / "specter.yaml")
    optim = found["model"]["init_args"]["optim"]
    assert found["model"]["init_args"]["encoder"]["backbone"] == (
        "allenai/scibert_scivocab_uncased"
    )
    assert (optim["lr"], optim["schedule"]) == (2e-5, "slanted_triangular")
    assert found["model"]["init_args"]["margin"] == 1.0
    assert found["data"]["batch_size"] == 32
    assert found["trainer"]["max_epochs"] == 2


def test_scincl_is_the_published_one(capsys):
    found = printed(capsys, CONFIGS / "scincl.yaml")
    model, data = found["model"]["init_args"], found["data"]
    optim, encoder = model["optim"], model["encoder"]
    assert encoder["backbone"] == "allenai/scibert_scivocab_uncased"
    assert (encoder["pooling"], encoder["max_length"]) == ("cls", 512)
    assert encoder["input_format"]["separator"] == "sep"
    assert (optim["lr"], optim["weight_decay"], optim["clip_norm"]) == (2e-5, 0.0, 1.0)
    assert (optim["schedule"], optim["warmup_steps"], optim["warmup_share"]) == ("linear", 0, 0.0)
    assert (model["margin"], data["batch_size"], found["trainer"]["max_epochs"]) == (1.0, 32, 2)
    assert data["triplets_from"] == "neighbours"
    assert NeighbourMining(**data["neighbour_mining"]) == NeighbourMining()


def test_specter2_base_is_the_model_cards(capsys):
    found = printed(capsys, CONFIGS / "specter2_base.yaml")
    optim = found["model"]["init_args"]["optim"]
    assert (optim["lr"], optim["schedule"], optim["warmup_share"]) == (2e-5, "linear", 0.1)
    assert (optim["weight_decay"], optim["clip_norm"]) == (0.0, None)
    assert found["model"]["init_args"]["encoder"]["max_length"] == 512
    assert found["data"]["batch_size"] == 1024
    assert found["trainer"]["max_epochs"] == 2


def test_specter2_adapters_are_the_model_cards(capsys):
    found = printed(capsys, CONFIGS / "specter2_adapters.yaml")
    model = found["model"]["init_args"]
    optim, adapters = model["optim"], model["encoder"]["adapters"]
    assert (optim["lr"], optim["schedule"], optim["warmup_steps"]) == (1e-4, "linear", 1000)
    assert (optim["weight_decay"], model["head_dropout"], model["weights"]) == (0.0, 0.2, None)
    assert (adapters["config"], adapters["reduction"]) == ("seq_bn", 16)
    assert adapters["formats"] == ["classification", "regression", "proximity", "adhoc_query"]
    assert model["encoder"]["max_length"] == 512
    assert found["data"]["batch_size"] == 256
    assert found["trainer"]["max_epochs"] == 6


def test_the_sentence_encoder_of_all_fields_has_the_settings_of_biomed(capsys):
    biomed = printed(capsys, CONFIGS / "aspire_sentence.yaml")
    assert printed(capsys, CONFIGS / "aspire_sentence_all.yaml") == biomed


@pytest.mark.parametrize(
    ("name", "rate", "warm_up", "objectives"),
    [
        ("ts_biomed", 2e-5, 667, {"aligned": 1.0}),
        ("ts_compsci", 2e-5, 200, {"aligned": 1.0}),
        ("ot_biomed", 2e-5, 200, {"transport": 1.0}),
        ("ot_compsci", 3e-5, 200, {"transport": 1.0}),
        ("tsot_biomed", 1e-5, 200, {"aligned": 1.0, "transport": 1.0}),
        ("tsot_compsci", 2e-5, 200, {"aligned": 1.0, "transport": 1.0}),
    ],
)
def test_multi_vector_aspire_is_the_published_one(capsys, name, rate, warm_up, objectives):
    found = printed(capsys, CONFIGS / f"aspire_{name}.yaml")
    model = found["model"]["init_args"]
    assert (model["optim"]["lr"], model["optim"]["warmup_steps"]) == (rate, warm_up)
    assert {k: v for k, v in model["objectives"].items() if v} == objectives
    moved = {"temperature": 5000.0, "blur": 0.05, "scaling": 0.9}
    assert model["transport"] == (moved if "transport" in objectives else None)
    assert (model["encoder"]["pooling"], model["encoder"]["max_length"]) == ("sentences", 502)
    assert model["encoder"]["backbone"] == "allenai/specter"
    align = found["data"]["sampling"]["init_args"]["align"]
    assert align == ("context" if "aligned" in objectives else "none")
    assert (found["data"]["batch_size"], found["trainer"]["max_epochs"]) == (30, 1)
