"""One parser for recipes and commands: what files and words say becomes the same settings."""

import subprocess
import sys

import pytest

from sciembed_train.commands import prepare, show
from sciembed_train.config.recipe_options import RecipeCommandLine, named_classes, split_recipes
from sciembed_train.config.stand_ins import Method
from sciembed_train.config.trainer_settings import TrainerSettings
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.tasks.task_types import TaskBuilding
from sciembed_train.errors import UserError
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.text.input_format import InputFormat

RECIPE = """
data:
  dev_share: 0.1
  seed: 3
  contexts: contexts.jsonl
  triplets: {per_query: 4, hard: 1}
  cocitation_mining: {max_group: 4, require_bracket: true}
  task_building: {negatives: last}
model:
  encoder: {backbone: some/folder, pooling: sentences, input_format: {separator: space}}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture(params=[prepare.command_line, show.command_line], ids=["prepare", "show"])
def line(request):
    return request.param()


def words(line, *more):
    return [*more, *(["--to", "c"] if line.command == "prepare" else [])]


def test_a_recipe_says_what_to_mine_and_how_to_tokenise(line, recipe):
    found = line.read(words(line, "-c", recipe))
    data = found.get(DataSettings)
    assert (data.dev_share, data.seed, data.contexts) == (0.1, 3, "contexts.jsonl")
    assert data.triplets == TripletMining(per_query=4, hard=1)
    assert data.cocitation_mining == CocitationMining(max_group=4, require_bracket=True)
    assert data.task_building == TaskBuilding(negatives="last")
    assert found.backbone == "some/folder"
    assert found.encoder.input_format == InputFormat(separator="space")
    assert found.encoder.pooling == "sentences"


def test_later_recipes_stand_above_earlier_ones_and_words_above_all(line, recipe, tmp_path):
    second = tmp_path / "b.yaml"
    second.write_text("data: {seed: 4, triplets: {hard: 2}}\n")
    more = ["--data.seed", "5", "-c", recipe, "-c", str(second), "--data.triplets.per_query=6"]
    data = line.read(words(line, *more)).get(DataSettings)
    assert data.seed == 5
    assert data.triplets == TripletMining(per_query=6, hard=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "data:\n  triplets: {hardness: 2}",
            r"r\.yaml:2: .*hardness.* Did you mean --data",
        ),
        ("data: {triplets: {hard: two}}", r"r\.yaml:1: data\.triplets\.hard: Expected a int"),
        ("data: {triplets: {require_hard: 1}}", r"require_hard: Expected a bool"),
        ("data: {dev_share: much}", r"dev_share: Expected a float. Got value: much"),
        ("data: {seed: 1.5}", "seed: Expected a int. Got value: 1.5"),
        ("data: {cocitation_mining: {cocitations_from: air}}", r"given.*references.*fulltexts"),
        ("data: [", "is not YAML"),
        ("just text", "holds no settings"),
        ("model: {encoder: {input_format: {separator: tab}}}", "sep.*space.*tab"),
        (
            "model: {encoder: [7]}",
            r"r\.yaml:1: model\.encoder: got \[7\]; .*--model\.encoder\.backbone",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_with_line_and_key(line, tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as refused:
        line.read(words(line, "-c", str(path)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {class_path: sciembed_train.methods.specter.Spector}", "Spector"),
        ("trainer: {max_epoch: 2}", r"r\.yaml:1: .*max_epoch.*Did you mean --trainer\.max_epochs"),
        ("trainer: {gradient_clip_val: 2}", r"r\.yaml:1: .*set model\.optim\.clip_norm"),
        ("data: {sampling: {class_path: a.B}}", r"r\.yaml:1: data\.sampling.*'a\.B'"),
        (
            "model: {class_path: sciembed_train.methods.specter.Specter, init_args: {optim: [7]}}",
            r"r\.yaml:1: model\.optim: got \[7\]; .*--model\.optim\.lr VALUE",
        ),
        (
            "data: {sampling: {class_path: sciembed_train.sampling.citation_pairs."
            "CitationPairSampling, init_args: {weights: null}}}",
            r"r\.yaml:1: data\.sampling\.weights: got null; .*weights\.citations VALUE",
        ),
    ],
)
def test_preparing_has_no_use_for_what_is_about_training(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        show.command_line().read(["-c", str(path)])
    prepare.command_line().read(["-c", str(path), "--to", "c", "--papers", "p"])


def test_preparing_by_a_recipe_imports_no_torch():
    code = (
        "import sys\nfrom sciembed_train.commands.prepare import command_line\n"
        "from sciembed_train.sampling.data_settings import DataSettings\n"
        "for name in ('specter', 'declutr_small', 'specter2_adapters', 'aspire_ts_biomed'):\n"
        "    recipe = command_line().read(['-c', name, '--to', 'c', '--papers', 'p'])\n"
        "    print(name, recipe.encoder.pooling, recipe.get(DataSettings).papers)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "aspire_ts_biomed sentences p" in done.stdout


def test_a_value_out_of_its_range_is_refused_by_its_dataclass(line):
    with pytest.raises(UserError, match="hard must be 0 to per_query"):
        line.read(words(line, "--data.triplets.hard", "9")).get(DataSettings)
    with pytest.raises(UserError, match=r"data\.batch_size must be 1 or more; got 0"):
        line.read(words(line, "--data.batch_size", "0")).get(DataSettings)


def test_a_shipped_recipe_is_found_by_name_and_its_method_checked(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = line.read(words(line, "-c", "specter", "-c", "machine/cpu", "--model.margin", "2"))
    assert found.namespace.model.init_args.margin == 2.0
    assert found.get(TrainerSettings).accelerator == "cpu"
    with pytest.raises(UserError, match=r"margn.* Did you mean --model\.margin"):
        line.read(words(line, "-c", "specter", "--model.margn", "2"))


def test_prepares_short_names_are_those_of_the_recipe():
    given = prepare.command_line().read(
        [
            *("--papers", "p", "--max-bad-rows", "2", "--per_query=3", "--no-require-hard"),
            *("--one-per-citing", "false", "--cocitations-from", "references", "--to", "c"),
            *("--task-triplets", "2", "--dev-in-train", "--tokenizer", "x", "--separator", "space"),
        ]
    )
    data = given.get(DataSettings)
    assert (data.papers, data.max_bad_rows) == ("p", 2)
    assert data.triplets == TripletMining(per_query=3, require_hard=False)
    mining = CocitationMining(cocitations_from="references", one_per_citing=False)
    assert data.cocitation_mining == mining
    assert data.task_building == TaskBuilding(per_query=2, dev_in_train=True)
    assert given.encoder.backbone == "x"
    assert given.encoder.input_format == InputFormat(separator="space")


def test_faithful_stands_above_the_recipe_and_below_other_words(recipe):
    given = ["-c", recipe, "--max-words", "70", "--faithful", "--to", "c"]
    mining = prepare.command_line().read(given).get(DataSettings).cocitation_mining
    assert mining.max_words == 70
    assert (mining.max_group, mining.require_bracket, mining.mask_mentions) == (3, True, False)


def test_short_names_are_prepares_alone():
    with pytest.raises(UserError, match=r"--papers F\. Did you mean --data\.papers\?"):
        show.command_line().read(["--papers", "F"])


def test_a_table_of_a_recipe_can_be_taken_back():
    line = RecipeCommandLine("show", "")
    given = ["-c", "specter2_adapters", "--model.encoder.adapters", "null"]
    assert line.read(given).namespace.model.init_args.encoder.adapters is None


def test_recipes_are_split_from_the_other_words():
    given = ["-c", "a.yaml", "--x", "1", "--config", "b.yaml", "--config=c.yaml"]
    assert split_recipes(given) == (["a.yaml", "b.yaml", "c.yaml"], ["--x", "1"])
    assert split_recipes([]) == ([], [])
    with pytest.raises(UserError, match="-c needs a recipe"):
        split_recipes(["--x", "-c"])


def test_the_classes_that_words_and_recipes_name_are_found():
    assert named_classes([]) == {"model": Method}
    found = named_classes(["-c", "declutr_small"])
    assert [kind.__name__ for kind in found.values()] == ["Declutr", "SpanSampling"]
    other = "sciembed_train.sampling.tasks.TaskSampling"
    found = named_classes(["-c", "declutr_small", "--data.sampling", other])
    assert found["data.sampling"].__name__ == "TaskSampling"


def test_a_machine_file_may_stand_before_the_recipe():
    line = RecipeCommandLine("fit", "", trains=True)
    model = line.read(["-c", "machine/slurm", "-c", "specter"]).namespace.model
    assert model.class_path == "sciembed_train.methods.specter.Specter"
    other = line.read(["-c", "specter", "-c", "machine/slurm"]).namespace.model
    assert model.as_dict() == other.as_dict()


@pytest.mark.parametrize(
    ("said", "cleaning"),
    [
        ([], "markup"),
        (["--data.neighbour_mining.reproduce", "true"], "none"),
        (["--model.encoder.input_format.cleaning", "markup"], "markup"),
    ],
)
def test_what_is_reproduced_is_read_as_it_stands_unless_the_user_says_otherwise(
    line, tmp_path, said, cleaning
):
    own = tmp_path / "own.yaml"
    reproduce = str(cleaning == "none" or bool(said)).lower()
    own.write_text(f"data: {{neighbour_mining: {{reproduce: {reproduce}}}}}\n")
    found = line.read(words(line, "-c", "scincl", "-c", str(own), *said))
    assert found.encoder.input_format.cleaning == cleaning
    assert ("input_format.cleaning" in found.explicit.keys) == bool(said)
