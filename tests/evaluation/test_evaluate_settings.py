import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.inference.options import EmbedSettings, ScoreSettings

SHORT = EmbedSettings(dim=8)
NAMED = EmbedSettings(prompt="query")
COSINE = ScoreSettings(similarity="cosine")


@pytest.mark.parametrize(
    ("benchmark", "settings", "message"),
    [
        ("csfcubes", {"model": "m"}, "there is none of this name; there are csfcube"),
        ("csfcube", {}, "one of --model, --ranking and --embeddings"),
        ("csfcube", {"model": "m", "ranking": "r"}, "one of --model, --ranking and --embeddings"),
        ("labels", {"model": "m", "embeddings": "e"}, "one of --model, --ranking and --embeddings"),
        ("labels", {"model": "m", "query_embeddings": "e"}, "--query_embeddings goes with --emb"),
        (
            "labels",
            {"embeddings": "e", "score": ScoreSettings("transport", temperature=1)},
            "--scorer is about a model; leave it out for --embeddings",
        ),
        ("labels", {"ranking": "r"}, "--ranking goes with --benchmark csfcube .*, not labels"),
        ("labels", {"model": "m", "run_to": "r"}, "--run_to goes with --benchmark csfcube .*, not"),
        ("relish", {"model": "m", "tasks": "t"}, "--tasks goes with --benchmark scirepeval"),
        ("relish", {"model": "m", "split": "dev"}, "--split goes with --benchmark citations"),
        ("relish", {"model": "m", "facet": "f"}, "--facet goes with --benchmark csfcube"),
        ("relish", {"model": "bm25", "score": COSINE}, "--similarity is about a model's vectors"),
        ("labels", {"model": "m", "query_prompt": "query"}, "--query_prompt goes with --benchmark"),
        ("retrieval", {"model": "bm25", "query_prompt": "query"}, "--query_prompt is about texts"),
        ("retrieval", {"embeddings": "e", "embed": NAMED}, "--prompt is about texts that a model"),
        ("csfcube", {"ranking": "r", "score": COSINE}, "--similarity is about a model's vectors"),
        ("relish", {"model": "random", "embed": SHORT}, "--dim is about a model's vectors"),
        ("labels", {"embeddings": "e", "embed": SHORT}, "--dim is about a model's vectors"),
    ],
)
def test_what_does_not_go_together_is_refused(benchmark, settings, message):
    with pytest.raises(UserError, match=message):
        EvaluateSettings(benchmark, "folder", **settings)


@pytest.mark.parametrize(
    ("tasks", "names"), [("", []), ("one of", ["one of"]), (["a", "b"], ["a", "b"])]
)
def test_one_task_or_several_are_a_list_of_names(tasks, names):
    assert EvaluateSettings("scirepeval", "folder", "m", tasks=tasks).task_names == names


def test_vectors_have_a_similarity():
    assert EvaluateSettings("csfcube", "folder", embeddings="e", score=COSINE).model is None
