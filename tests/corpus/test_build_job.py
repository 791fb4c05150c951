from pathlib import Path

from sciembed_train.corpus.build_job import BuildJob, open_inputs
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.progress import Progress


def test_accounts_have_the_budget_of_the_settings(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"paper_id": 1, "title": "t"}\n')
    settings = PrepareSettings(tmp_path / "p.jsonl", max_bad_rows=7)
    job = BuildJob(
        folder=Path("corpus"),
        settings=settings,
        inputs=open_inputs(settings),
        lists={},
        progress=Progress(quiet=True),
    )
    assert job.audit("papers").max_bad_rows == 7
    assert job.work == Path("corpus/work")
    assert job.report == {}
