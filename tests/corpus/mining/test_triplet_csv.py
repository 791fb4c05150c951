import pytest

from sciembed_train.corpus.mining.triplet_csv import export_csv
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.errors import UserError
from tests.helpers.small_corpus import write_small_corpus


def test_triplets_are_written_with_the_papers_ids(tiny_bert, tmp_path):
    corpus = write_small_corpus(tmp_path / "corpus", tiny_bert)
    export_csv(corpus, tmp_path / "csv")
    for split in SPLITS:
        head, *lines = (tmp_path / "csv" / f"{split}_triples.csv").read_text().splitlines()
        assert head == "query_paper_id,positive_id,negative_id"
        expected = [[f"p{paper}" for paper in row] for row in corpus.triplets(split)]
        assert [line.split(",") for line in lines] == expected
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file cannot be written"):
        export_csv(corpus, tmp_path / "file")
