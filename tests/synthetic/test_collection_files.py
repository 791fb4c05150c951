import json

from sciembed_train.synthetic import SyntheticSettings, write_collection


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(tmp_path):
    def written(name, seed):
        write_collection(tmp_path / name, SyntheticSettings(papers=200, seed=seed))
        return {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}

    first = written("a", 1)
    assert first == written("b", 1)
    other = written("c", 2)
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_files_are_readable_and_agree_with_each_other(tmp_path):
    collection = write_collection(tmp_path, SyntheticSettings(papers=150, seed=0))
    read = {
        name: [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("papers", "contexts", "fulltexts", "labels", "citedness", "queries")
    }
    ids = {p["paper_id"] for p in read["papers"]}
    assert ids == set(collection.paper_ids)
    assert {r["paper_id"] for r in read["labels"]} == ids
    assert {r["paper_id"] for r in read["fulltexts"]} <= ids
    lines = (tmp_path / "citations.tsv").read_text().splitlines()
    assert lines[0] == "citing\tcited"
    assert len(lines) == 1 + len(collection.citations)
    grades = [line.split("\t") for line in (tmp_path / "qrels.tsv").read_text().splitlines()]
    assert {g[0] for g in grades} == {q["query_id"] for q in read["queries"]}
    assert {g[2] for g in grades} <= ids
    fields = {p["paper_id"]: p["fields_of_study"][0] for p in read["papers"]}
    assert all(fields[r["paper_id"]] == r["label"] for r in read["labels"])
