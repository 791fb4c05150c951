import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.token_kinds import TASK_TOKENS
from sciembed_train.corpus.tasks.task_store import TaskFolder
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.task_files import EIGHT, write_tasks


@pytest.fixture
def task_folder(tmp_path):
    return write_tasks(tmp_path / "given", dict.fromkeys(EIGHT, 30))


def test_damaged_tasks_are_refused(task_folder, tmp_path):
    corpus = prepare(PrepareSettings(tasks=task_folder, to=tmp_path / "corpus"))
    tasks = corpus.tasks()
    with pytest.raises(ValueError, match="one of triplets"):
        tasks.labels("specter", "train")
    (corpus.folder / "tasks" / "mesh" / "train.npy").write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        tasks.examples("mesh", "train")
    (corpus.folder / "tasks.json").write_text("[{}]")
    with pytest.raises(UserError, match=r"tasks.json is damaged"):
        corpus.tasks()


def test_examples_labels_and_texts_are_read_back(task_folder, tiny_bert, tmp_path):
    settings = PrepareSettings(tasks=task_folder, to=tmp_path / "corpus", tokenizer=tiny_bert)
    corpus = prepare(settings)
    tasks = corpus.tasks()
    assert tuple(tasks.by_name) == EIGHT
    assert tasks.examples("specter", "train").shape[1] == 3
    assert len(tasks.labels("mesh", "train")) == len(tasks.examples("mesh", "train"))
    assert tasks.labels("fos", "train").shape[1] == 3
    assert len(list(tasks.texts())) == tasks.n_texts
    key = TextTokenizer.load(tiny_bert).key(InputFormat())
    assert len(corpus.tokens(key, TASK_TOKENS)) == tasks.n_texts
    with pytest.raises(UserError, match=r"no tokens of its tasks' texts .* only the tokens are"):
        corpus.tokens("0", TASK_TOKENS)


def test_a_corpus_without_tasks_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no tasks\. Prepare a corpus from them"):
        TaskFolder(tmp_path, 0)
