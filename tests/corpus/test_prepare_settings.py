import json

import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.build_job import open_inputs
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.errors import UserError
from tests.helpers.cocitation_files import (
    write_contexts,
    write_letter_papers,
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"papers": None, "fulltexts": "f.txt", "contexts": "c"}, "--contexts names papers"),
        ({"papers": None, "fulltexts": "f.txt", "cocitations": "c"}, "--cocitations names papers"),
        ({"columns": {"headline": "title"}}, "names 'headline'; the fields are paper_id"),
    ],
)
def test_what_does_not_go_together_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        PrepareSettings(**({"papers": "p.jsonl", "to": "c"} | values))


def test_triplets_are_of_citations_or_neighbours():
    with pytest.raises(UserError, match="triplets_from is 'air'; it is one of citations, neigh"):
        PrepareSettings("p.jsonl", triplets_from="air")


def test_corpora_made_without_co_citations_are_still_known_by_what_they_were(tmp_path):
    write_letter_papers(tmp_path)
    identity = open_inputs(PrepareSettings(tmp_path / "papers.jsonl")).identity
    assert list(identity) == [
        *("version", "sources", "format", "triplets", "dev_share", "test_share", "seed"),
    ]
    assert list(identity["sources"]) == ["papers"]
    contexts = write_contexts(tmp_path, ["ab"])
    excluded = tmp_path / "excluded.txt"
    excluded.write_text("d\n")
    names = set()
    smaller = {"cocitation_mining": CocitationMining(max_group=2)}
    for values in ({}, {"exclude": str(excluded)}, smaller):
        asked = PrepareSettings(tmp_path / "papers.jsonl", contexts=contexts, **values)
        names.add(json.dumps(open_inputs(asked).identity, sort_keys=True))
    assert len(names) == 3


def test_the_papers_of_specters_own_format_are_not_mined_for_pairs(tmp_path):
    (tmp_path / "metadata.json").write_text('{"a": {"paper_id": "a", "title": "t"}}')
    (tmp_path / "data.json").write_text("{}")
    (tmp_path / "train.txt").write_text("a\n")
    contexts = write_contexts(tmp_path, ["ab"])
    with pytest.raises(UserError, match=r"SPECTER's own format.*--format plain"):
        prepare(PrepareSettings(tmp_path, contexts=contexts, to=tmp_path / "c"))


def test_lists_of_ids_need_papers_or_documents(tmp_path):
    with pytest.raises(UserError, match="--dev-ids names papers or documents"):
        PrepareSettings(tasks="t", dev_ids=tmp_path / "ids")
    with pytest.raises(UserError, match="or --tasks, a list of tasks"):
        PrepareSettings()
    with pytest.raises(UserError, match="--citations names papers"):
        PrepareSettings(tasks="t", citations="f")
