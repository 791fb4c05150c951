import json
import time

import numpy as np
import pytest

from sciembed_train.synthetic import (
    SyntheticSettings,
    generate_collection,
    shuffle_cited,
    train_tokenizer,
    write_bert,
    write_collection,
)

SMALL = SyntheticSettings(papers=600, seed=3)


def text_of(row):
    abstract = row["abstract"] or ""
    return f"{row['title']} {abstract if isinstance(abstract, str) else ' '.join(abstract)}"


@pytest.fixture(scope="module")
def world():
    return generate_collection(SMALL)


@pytest.fixture(scope="module")
def papers(world):
    return list(world.papers())


def words_of(row):
    return set(text_of(row).lower().replace(".", "").split())


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(tmp_path):
    def written(name, seed):
        write_collection(tmp_path / name, SyntheticSettings(papers=200, seed=seed))
        return {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}

    first = written("a", 1)
    assert first == written("b", 1)
    other = written("c", 2)
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_the_older_paper_is_cited_and_none_twice(world):
    citing, cited = world.citations.T
    assert (cited < citing).all()
    assert (world.year[cited] <= world.year[citing]).all()
    assert len(np.unique(world.citations, axis=0)) == len(world.citations)
    assert world.citations.min() >= 0
    assert world.citations.max() < SMALL.papers


def test_citations_follow_topics_and_cross_dialects(world):
    citing, cited = world.citations.T
    assert (world.topic[citing] == world.topic[cited]).mean() > 0.5
    assert (world.dialect[citing] == world.dialect[cited]).mean() < 1 / SMALL.dialects


def test_citations_have_a_heavy_tail():
    degree = np.sort(generate_collection(SyntheticSettings(papers=5000, seed=0)).in_degree())[::-1]
    assert degree[0] > 10 * degree.mean()
    # A Poisson law of the same mean would give the top hundredth about 2.6 times the mean.
    assert degree[:50].mean() > 4 * degree.mean()
    assert (degree == 0).mean() > 0.01


def test_papers_that_cite_each_other_share_no_more_words_than_chance_within_topics(world, papers):
    """Most cited papers have fewer words in common with the citing one than topic mates have
    that write in its dialect: so matching words ranks the wrong papers first."""
    rows = [words_of(p) for p in papers]

    def overlap(pairs):
        return np.mean([len(rows[a] & rows[b]) / len(rows[a] | rows[b]) for a, b in pairs])

    rng = np.random.default_rng(0)
    cited = world.citations[rng.permutation(len(world.citations))[:1500]]
    cited = cited[world.topic[cited[:, 0]] == world.topic[cited[:, 1]]]
    pairs = rng.integers(SMALL.papers, size=(200_000, 2))
    pairs = pairs[(world.topic[pairs[:, 0]] == world.topic[pairs[:, 1]])]
    same = pairs[(world.dialect[pairs[:, 0]] == world.dialect[pairs[:, 1]])]
    same = same[same[:, 0] != same[:, 1]]
    any_two = rng.integers(SMALL.papers, size=(2000, 2))
    assert overlap(cited) < 0.75 * overlap(same)
    assert overlap(cited) < overlap(any_two) + 0.05


def test_texts_have_a_realistic_mix_of_forms_and_lengths(papers):
    abstracts = [p["abstract"] for p in papers]
    none = [a for a in abstracts if not a]
    assert {type(a) for a in none} == {str, type(None)}
    assert 0.03 < len(none) / len(papers) < 0.15
    assert any(isinstance(a, list) and len(a) > 1 for a in abstracts)
    lengths = np.array([len(text_of(p).split()) for p in papers])
    assert lengths.min() < 13
    assert lengths.max() > 130
    assert all(p["title"].strip() for p in papers)
    assert len({p["paper_id"] for p in papers}) == len(papers)


def test_a_held_out_paper_uses_words_that_others_use_too(papers):
    seen = set().union(*(words_of(p) for p in papers[::2]))
    used = [w for p in papers[1::2] for w in words_of(p)]
    assert np.mean([w in seen for w in used]) > 0.99


def test_citing_sentences_cite_one_to_three_known_papers(world):
    rows = list(world.contexts())
    known = set(world.paper_ids)
    names = {p: i for i, p in enumerate(world.paper_ids)}
    pairs = {tuple(row) for row in world.citations.tolist()}
    assert {len(r["cited_ids"]) for r in rows} == {1, 2, 3}
    assert all(known.issuperset(r["cited_ids"]) for r in rows)
    assert all((names[r["citing_id"]], names[c]) in pairs for r in rows for c in r["cited_ids"])
    assert all(r["text"].endswith(".") for r in rows)


def test_searches_are_answered_by_papers_of_one_topic(world):
    queries, qrels = world.searches()
    topic = dict(zip(world.paper_ids, world.topic.tolist(), strict=True))
    by_query = {}
    for query, paper, grade in qrels:
        by_query.setdefault(query, {})[paper] = grade
    assert set(by_query) == {q["query_id"] for q in queries}
    for grades in by_query.values():
        assert len({topic[p] for p in grades}) == 1
        assert 2 in grades.values()


def test_files_are_readable_and_agree_with_each_other(tmp_path):
    world = write_collection(tmp_path, SyntheticSettings(papers=150, seed=0))
    read = {
        name: [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("papers", "contexts", "fulltexts", "labels", "citedness", "queries")
    }
    ids = {p["paper_id"] for p in read["papers"]}
    assert ids == set(world.paper_ids)
    assert {r["paper_id"] for r in read["labels"]} == ids
    assert {r["paper_id"] for r in read["fulltexts"]} <= ids
    lines = (tmp_path / "citations.tsv").read_text().splitlines()
    assert lines[0] == "citing\tcited"
    assert len(lines) == 1 + len(world.citations)
    grades = [line.split("\t") for line in (tmp_path / "qrels.tsv").read_text().splitlines()]
    assert {g[0] for g in grades} == {q["query_id"] for q in read["queries"]}
    assert {g[2] for g in grades} <= ids
    fields = {p["paper_id"]: p["fields_of_study"][0] for p in read["papers"]}
    assert all(fields[r["paper_id"]] == r["label"] for r in read["labels"])


def test_shuffled_citations_say_nothing_about_topics(world):
    shuffled = shuffle_cited(world.citations, SMALL.papers, np.random.default_rng(0))
    assert len(shuffled) > 0.99 * len(world.citations)
    agree = world.topic[shuffled[:, 0]] == world.topic[shuffled[:, 1]]
    chance = np.sum((np.bincount(world.topic) / SMALL.papers) ** 2)
    assert agree.mean() < 1.5 * chance
    before = np.corrcoef(world.in_degree(), np.bincount(shuffled[:, 1], minlength=SMALL.papers))
    assert abs(before[0, 1]) < 0.15


def test_ten_thousand_papers_take_seconds():
    began = time.process_time()
    world = generate_collection(SyntheticSettings(papers=10_000))
    assert sum(1 for _ in world.papers()) == 10_000
    assert len(world.citations) > 50_000
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    "wrong",
    [{"papers": 5}, {"dialects": 1}, {"concepts_per_topic": 99}, {"same_topic": 0.9}],
)
def test_an_impossible_world_is_refused(wrong):
    with pytest.raises(ValueError, match=r"."):
        SyntheticSettings(**wrong) if wrong != {"same_topic": 0.9} else SyntheticSettings(
            same_topic=0.9, same_field=0.2
        )


def test_tokenizer_and_bert_are_written_the_same_twice(tmp_path, papers):
    from transformers import AutoModel, AutoTokenizer

    texts = [text_of(p) for p in papers]
    for name in "ab":
        write_bert(tmp_path / name, train_tokenizer(texts, 900), layers=1, width=32, heads=2)
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    ids = tokenizer(texts[0].split(".")[0])["input_ids"]
    assert ids[0] == tokenizer.cls_token_id
    assert ids[-1] == tokenizer.sep_token_id
    assert tokenizer.unk_token_id not in ids
    assert AutoModel.from_pretrained(tmp_path / "a").config.vocab_size == len(tokenizer)
