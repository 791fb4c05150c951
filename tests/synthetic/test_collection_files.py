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
    papers = [json.loads(line) for line in (tmp_path / "papers.jsonl").read_text().splitlines()]
    ids = {paper["paper_id"] for paper in papers}
    assert ids == set(collection.paper_ids)
    first, *lines = (tmp_path / "citations.tsv").read_text().splitlines()
    assert first == "citing\tcited"
    assert len(lines) == len(collection.citations)
    assert {paper for line in lines for paper in line.split("\t")} <= ids
