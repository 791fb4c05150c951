import json

import pytest

from sciembed_train.errors import UserError
from tests.helpers.killed_embedding import check_whole
from tests.helpers.tiny_models import write_tiny_bert
from tests.inference.test_embed_file import write_papers
from tests.inference.test_embed_shards import contents, embed


@pytest.fixture
def papers(tmp_path):
    return write_papers(tmp_path / "papers.jsonl")


def test_a_folder_of_another_model_input_or_setting_is_refused(tiny_bert, papers, tmp_path):
    folder = tmp_path / "v"
    embed(tiny_bert, papers, folder, shards="1/2")
    other = write_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="holds shards of another model"):
        embed(other, papers, folder)
    with pytest.raises(UserError, match="shards of other settings"):
        embed(tiny_bert, papers, folder, max_length=64)
    with pytest.raises(UserError, match="another size"):
        embed(tiny_bert, papers, folder, shard_size=50)
    embed(tiny_bert, papers, folder)  # a whole folder is refused alike
    write_papers(papers, seed=1)
    with pytest.raises(UserError, match="shards of another input"):
        embed(tiny_bert, papers, folder)
    before = contents(folder)
    assert embed(other, papers, folder, restart=True, shards="1/4").done == 1
    assert len(contents(folder)) == 4  # the plan and one shard
    assert before.keys() > contents(folder).keys()


def test_other_files_are_never_mixed_with_or_removed(tiny_bert, papers, tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "thesis.tex").write_text("years of work")
    for restart in (False, True):
        with pytest.raises(UserError, match=r"holds other files, such as thesis\.tex"):
            embed(tiny_bert, papers, tmp_path / "v", restart=restart)
    assert (tmp_path / "v" / "thesis.tex").read_text() == "years of work"


def test_malformed_rows_are_left_out_and_counted_by_every_process(tiny_bert, papers, tmp_path):
    rows = papers.read_text().splitlines()
    papers.write_text("\n".join([*rows[:50], "{", *rows[50:], rows[0]]) + "\n")
    for shards in ("1/2", "2/2"):
        made = embed(tiny_bert, papers, tmp_path / "v", max_bad_rows=2, shards=shards)
        assert made.malformed_left_out == 2
    check_whole(tmp_path / "v", [json.loads(row)["paper_id"] for row in rows])
    with pytest.raises(UserError, match=r"p\w+\.jsonl:51"):
        embed(tiny_bert, papers, tmp_path / "v", max_bad_rows=1)
