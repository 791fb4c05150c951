import json
import re

import pytest

from sciembed_train import cli
from sciembed_train.commands import evaluate
from sciembed_train.errors import UserError
from tests.helpers.benchmark_folders import (
    CSFCUBE_GRADES,
    write_csfcube,
    write_judged,
    write_searches,
)
from tests.helpers.small_corpus import write_small_corpus
from tests.helpers.small_disk import largest_file
from tests.helpers.small_scirepeval import documents, judged, labelled, write_tasks
from tests.helpers.small_suite import write_suite


@pytest.fixture
def cube(tmp_path):
    return write_csfcube(tmp_path / "cube")


@pytest.fixture
def searches(tmp_path):
    return write_searches(tmp_path)


def test_results_file_has_the_contracts_layout(searches, tiny_bert, tmp_path, capsys):
    target = tmp_path / "new" / "results.json"
    arguments = ["--model", str(tiny_bert), "--benchmark", "retrieval", "--data", str(searches)]
    assert evaluate.main([*arguments, "--device", "cpu", "--to", str(target)]) == 0
    printed = capsys.readouterr().out
    results = json.loads(target.read_text())
    assert list(results) == ["benchmark", "model", "metrics", "per_query", "settings"]
    assert results["benchmark"] == "retrieval"
    assert results["model"] == str(tiny_bert)
    for key, value in results["metrics"].items():
        task, name = key.split("/")
        assert task == "retrieval"
        assert f"{value:.4f}" in next(x for x in printed.splitlines() if x.startswith(f"{name} "))
    settings = results["settings"]
    assert settings["data"] == str(searches)
    assert (settings["pooling"], settings["max_length"], settings["precision"]) == (
        "cls",
        512,
        "fp32",
    )
    assert set(results["per_query"]) == {"1", "2", "3"}


def test_the_similarity_is_the_folders_or_the_one_given_and_is_named(
    searches,
    tiny_bert,
    tmp_path,
    capsys,
):
    from sciembed_train.encoder.encoder import Encoder

    Encoder.load(tiny_bert).save(tmp_path / "m", {"similarity": "cosine"})
    arguments = ["--benchmark", "retrieval", "--data", str(searches), "--json"]
    for more, want in (([], "cosine"), (["--similarity", "euclidean"], "euclidean")):
        assert evaluate.main(["--model", str(tmp_path / "m"), *arguments, *more]) == 0
        assert json.loads(capsys.readouterr().out)["settings"]["similarity"] == want
    with pytest.raises(UserError, match="--similarity"):
        evaluate.main(["--model", "random", *arguments, "--similarity", "cosine"])


def test_json_and_quiet(searches, capsys):
    arguments = ["--model", "random", "--benchmark", "retrieval", "--data", str(searches)]
    evaluate.main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert json.loads(out)["settings"]["seed"] == 0
    assert err == ""
    evaluate.main([*arguments, "--quiet"])
    assert capsys.readouterr() == ("", "")


def test_a_ranking_is_scored(cube, tmp_path, capsys):
    ranking = tmp_path / "mine-method.json"
    rows = {q: sorted(CSFCUBE_GRADES[q], key=lambda p: -CSFCUBE_GRADES[q][p]) for q in ("q2", "q3")}
    ranking.write_text(json.dumps(rows))
    arguments = ["--ranking", str(ranking), "--benchmark", "csfcube", "--data", str(cube)]
    assert evaluate.main([*arguments, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["metrics"]["method/map_grade2"] == 1.0
    assert not any(key.startswith("background") for key in results["metrics"])
    ranking.rename(tmp_path / "mine.json")
    arguments[1] = str(tmp_path / "mine.json")
    with pytest.raises(UserError, match="--facet"):
        evaluate.main(arguments)
    assert evaluate.main([*arguments, "--facet", "method", "--quiet"]) == 0


def test_a_model_on_csfcube_needs_its_texts(cube, tiny_bert, capsys):
    arguments = ["--model", str(tiny_bert), "--benchmark", "csfcube", "--data", str(cube)]
    with pytest.raises(UserError, match="say where the texts are with --papers"):
        evaluate.main(arguments)
    texts = [{"paper_id": p, "title": p, "abstract": ["a b", "c"]} for p in "abcdef"]
    texts += [{"paper_id": f"q{i}", "title": f"word{i}", "abstract": []} for i in (1, 2, 3)]
    (cube / "abstracts-csfcube-preds.jsonl").write_text("\n".join(map(json.dumps, texts)))
    assert evaluate.main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert {"background/map_grade2", "method/ndcg_pct20_log2"} <= json.loads(out)["metrics"].keys()
    assert err == ""


def cube_texts(cube):
    """Papers for the small cube, whose sentences have labels."""
    rows = [
        {
            "paper_id": p,
            "title": f"word{i}",
            "abstract": [f"word{i + 20} word{i}", f"word{i + 1} word{i + 40}", f"word{2 * i}"],
            "pred_labels": ["background_label", "method_label", "result_label"],
        }
        for i, p in enumerate(("q1", "q2", "q3", *"abcdef"))
    ]
    (cube / "abstracts-csfcube-preds.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_every_scorer_says_what_it_ranked_by(cube, tiny_bert, capsys):
    cube_texts(cube)
    arguments = ["--model", str(tiny_bert), "--benchmark", "csfcube", "--data", str(cube), "--json"]
    seen = set()
    for more in (
        ["--scorer", "document"],
        ["--scorer", "sentences", "--similarity", "cosine"],
        ["--scorer", "best_match"],
        ["--scorer", "transport", "--temperature", "5000", "--blur", "0.1"],
    ):
        assert evaluate.main([*arguments, *more]) == 0
        results = json.loads(capsys.readouterr().out)
        settings = results["settings"]
        assert settings["scorer"] == more[1]
        assert ("asking" in settings) == (more[1] != "document")
        if more[1] == "transport":
            assert settings["transport"] == {"temperature": 5000.0, "blur": 0.1, "scaling": 0.9}
        seen.add(json.dumps(results["per_query"]))
    assert len(seen) > 1
    assert evaluate.main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["scorer"] == "document"


def test_a_scorer_without_what_it_needs_is_refused_before_the_work(cube, tiny_bert):
    cube_texts(cube)
    arguments = ["--benchmark", "csfcube", "--data", str(cube)]
    with pytest.raises(UserError, match="--temperature"):
        evaluate.main(["--model", str(tiny_bert), *arguments, "--scorer", "transport"])
    with pytest.raises(UserError, match="--scorer is about a model's vectors"):
        evaluate.main(["--model", "bm25", *arguments, "--scorer", "best_match"])


@pytest.mark.parametrize("scorer", ["document", "sentences", "best_match", "transport"])
def test_every_scorer_searches_whole_collections(scorer, searches, tiny_bert, tmp_path, capsys):
    corpus = write_small_corpus(tmp_path / "corpus", tiny_bert)
    more = ["--temperature", "1"] if scorer == "transport" else []
    for name, data in (("retrieval", searches), ("citations", corpus.folder)):
        arguments = ["--benchmark", name, "--data", str(data), "--scorer", scorer, *more]
        assert evaluate.main(["--model", str(tiny_bert), *arguments, "--json"]) == 0
        results = json.loads(capsys.readouterr().out)
        assert results["settings"]["scorer"] == scorer
        assert 0 < results["metrics"][f"{name}/ndcg_log2"] <= 1


def test_judged_pools_of_another_collection(tiny_bert, tmp_path, capsys):
    folder = write_judged(tmp_path / "covid", "treccovid")
    arguments = ["--benchmark", "treccovid", "--data", str(folder), "--scorer", "best_match"]
    assert evaluate.main(["--model", str(tiny_bert), *arguments, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert {"treccovid/map_grade1", "treccovid_dev/ndcg_pct20_jk"} <= results["metrics"].keys()
    assert results["settings"]["threshold"] == 1


def test_citations_of_a_corpus(tiny_bert, tmp_path, capsys):
    corpus = write_small_corpus(tmp_path / "corpus", tiny_bert)
    for model in (str(tiny_bert), "bm25", "random"):
        arguments = ["--model", model, "--benchmark", "citations", "--data", str(corpus.folder)]
        assert evaluate.main([*arguments, "--split", "dev", "--json"]) == 0
        results = json.loads(capsys.readouterr().out)
        assert results["settings"]["split"] == "dev"
        assert 0 < results["metrics"]["citations/ndcg_log2"] <= 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "random", "--benchmark", "retrieval", "--data", "nowhere"],
        ["--model", "random", "--benchmark", "citations", "--data", "nowhere"],
        ["--model", "random", "--benchmark", "csfcube", "--data", "nowhere"],
        ["--ranking", "r.json", "--benchmark", "retrieval", "--data", "nowhere"],
        ["--ranking", "nowhere.json", "--benchmark", "csfcube", "--data", "DATA"],
        ["--model", "nowhere/at/all", "--benchmark", "csfcube", "--data", "DATA"],
    ],
)
def test_wrong_input_leaves_with_2_and_a_message(cube, arguments, capsys):
    arguments = [str(cube) if a == "DATA" else a for a in arguments]
    assert cli.main(["evaluate", *arguments]) == 2
    assert capsys.readouterr().err.startswith("./train evaluate: ")


def test_an_unwritable_results_file_is_refused_before_the_work(searches, monkeypatch):
    monkeypatch.setattr("sciembed_train.evaluation.run_benchmark.run_benchmark", None)
    arguments = ["--model", "random", "--benchmark", "retrieval", "--data", str(searches)]
    for target in (searches / "qrels.tsv" / "r.json", searches):
        with pytest.raises(UserError, match="--to"):
            evaluate.main([*arguments, "--to", str(target)])


@pytest.fixture
def tasks(tmp_path):
    pools = {"p3": {"p4": 1, "p9": 0}, "p8": {"p1": 1, "p7": 0}}
    write_tasks(
        tmp_path,
        labelled(tmp_path, "of two", lambda i: i % 2, metrics=["f1", "accuracy"]),
        judged(tmp_path, "near", pools, documents(), metrics=["map"]),
    )
    return tmp_path


def test_tasks_are_scored_by_format(tasks, tiny_bert, capsys):
    arguments = ["--benchmark", "scirepeval", "--data", str(tasks), "--device", "cpu"]
    assert evaluate.main(["--model", str(tiny_bert), *arguments, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert set(results["per_query"]) == {"near/p3", "near/p8"}
    assert results["settings"]["tasks"]["of two"]["train"] == 16
    assert results["settings"]["pooling"] == "cls"
    assert results["settings"]["formats"] == "one vector for every format"
    assert evaluate.main(["--model", "random", *arguments, "--tasks", "classification"]) == 0
    printed = capsys.readouterr().out
    assert "of two" in printed
    assert "near" not in printed


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--model", "bm25"], "bm25 gives none"),
        (["--model", "x", "--scorer", "transport"], "--scorer transport does not go with"),
        (["--model", "random", "--benchmark", "retrieval", "--tasks", "y"], "--tasks goes with"),
        (["--model", "random", "--tasks", "far"], "has no task 'far'; it has 'of two', 'near'"),
    ],
)
def test_what_does_not_go_with_scirepeval_is_refused(tasks, more, told):
    with pytest.raises(UserError, match=told):
        evaluate.main(["--benchmark", "scirepeval", "--data", str(tasks), *more])


def test_on_a_full_disk_the_scores_are_said_and_no_half_file_is_left(searches, tmp_path, capsys):
    target = tmp_path / "results" / "results.json"
    words = ["evaluate", "--model", "bm25", "--benchmark", "retrieval"]
    words += ["--data", str(searches), "--to", str(target), "--quiet"]
    with largest_file(300):
        assert cli.main(words) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "results.json cannot be written: File too large" in said
    assert re.search(r"The scores are .*retrieval/ndcg_log2 \d\.\d{4}", said)
    assert list(target.parent.iterdir()) == []
    assert cli.main(words) == 0
    metrics = json.loads(target.read_text())["metrics"]
    assert f"retrieval/ndcg_log2 {metrics['retrieval/ndcg_log2']:.4f}" in said


def test_a_run_is_written_whole_or_not_at_all_and_is_scored_again(searches, tmp_path, capsys):
    run = tmp_path / "runs" / "bm25.run"
    words = ["evaluate", "--benchmark", "retrieval", "--data", str(searches)]
    write = [*words, "--model", "bm25", "--run_to", str(run)]
    with largest_file(60):
        assert cli.main([*write, "--quiet"]) == 1
    assert "bm25.run cannot be written: File too large" in capsys.readouterr().err
    assert list(run.parent.iterdir()) == []
    assert cli.main(write) == 0
    printed = capsys.readouterr().out
    assert f"Written to {run}." in printed
    assert cli.main([*words, "--ranking", str(run), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["model"] == str(run)
    assert f"{results['metrics']['retrieval/map_grade1']:.4f}" in printed
    run.write_text("1 Q0 p1\n")
    assert cli.main([*words, "--ranking", str(run)]) == 2
    assert "bm25.run:1: expected the six columns" in capsys.readouterr().err


def test_vectors_are_scored_alone_and_beside_models(tmp_path, capsys):
    suite = write_suite(tmp_path / "suite")
    path = tmp_path / "v.jsonl"
    rows = [{"paper_id": f"p{at:02}", "embedding": [at % 3, 1]} for at in range(30)]
    path.write_text("\n".join(map(json.dumps, rows)))
    one = ["--embeddings", str(path), "--data", str(suite / "reviews" / "one")]
    assert evaluate.main([*one, "--benchmark", "review", "--similarity", "cosine"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"review: {path}\n")
    assert re.search(r"^map +1\.0000$", printed, re.M)
    words = ["--suite", str(suite), "--only", "review", "--to", str(tmp_path / "to"), "--json"]
    assert evaluate.main([*words, "--model", "random", "--embeddings", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["models"] == ["random", str(path)]
    path.write_text("\n".join(map(json.dumps, rows[:20])))
    assert cli.main(["evaluate", *one, "--benchmark", "review"]) == 2
    told = capsys.readouterr().err
    assert "lacks 10 of 30 papers, such as p20; it has 20 vectors, such as that of p00" in told


def test_a_suite_of_models_given_once_or_several_times(tmp_path, capsys):
    suite = write_suite(tmp_path / "suite")
    words = ["--suite", str(suite), "--only", "review", "--to", str(tmp_path / "to")]
    assert evaluate.main([*words, "--model", "bm25", "--model", "random", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert evaluate.main([*words, "--model", "bm25", "random", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["models"] == ["bm25", "random"]
    assert {row["metric"] for row in content["rows"]} == {"review/wss95", "review/recall_pct10"}
    with pytest.raises(UserError, match="Give one --model or more"):
        evaluate.main(words)
    with pytest.raises(UserError, match="benchmark"):
        evaluate.main([*words, "--model", "bm25", "--benchmark", "review"])
    one = ["--benchmark", "review", "--data", str(suite / "reviews" / "one")]
    with pytest.raises(UserError, match="Several --model go with --suite"):
        evaluate.main([*one, "--model", "bm25", "--model=random"])
    with pytest.raises(SystemExit):
        evaluate.main(["--suite", "--help"])
    assert "--only" in capsys.readouterr().out


def test_a_suite_shows_what_stored_forms_keep(tiny_bert, tmp_path, capsys):
    suite = write_suite(tmp_path / "suite")
    words = ["--suite", str(suite), "--only", "review", "--to", str(tmp_path / "to")]
    words += ["--model", str(tiny_bert), "--device", "cpu", "--quiet"]
    forms = ["--dim", "8", "--dim", "4", "--dtype", "int8", "binary"]
    assert evaluate.main([*words, *forms, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    wss = [row for row in rows if row["metric"] == "review/wss95"]
    every = [(dim, dtype) for dim in (None, 8, 4) for dtype in ("float32", "int8", "binary")]
    assert [(row["dim"], row["dtype"]) for row in wss] == [(None, None), *every[1:]]
    for row in wss[1:]:
        assert row["model"] == str(tiny_bert)
        assert row["kept"] == pytest.approx(row["value"] / wss[0]["value"])
    assert cli.main(["evaluate", *words, "--dim", "33"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "--dim is 33, and the vectors of" in told
    with pytest.raises(UserError, match="--dtype is int4; expected one of"):
        evaluate.main([*words, "--dtype", "int4"])
