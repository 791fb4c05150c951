import dataclasses

import pytest

from sciembed_train.corpus.tasks.task_types import (
    Source,
    Task,
    TaskBuilding,
    TaskInfo,
    task_fingerprint,
)
from sciembed_train.errors import UserError

TASK = Task("mesh", "classification", "classification", "classification", {"train": Source("f")})


def test_settings_out_of_their_range_are_refused():
    with pytest.raises(UserError, match=r"task_building\.per_query must be 1 or more; got 0"):
        TaskBuilding(per_query=0)
    with pytest.raises(UserError, match="negatives is 'first'; expected drawn or last"):
        TaskBuilding(negatives="first")


def test_the_fingerprint_is_of_the_tasks_and_not_of_the_places_of_their_data():
    elsewhere = dataclasses.replace(TASK, sources={"train": Source("g")}, labels_from="l.txt")
    assert task_fingerprint([TASK]) == task_fingerprint([elsewhere])
    assert task_fingerprint([TASK]) != task_fingerprint([dataclasses.replace(TASK, labels=("a",))])


def test_classifications_and_regressions_are_labelled():
    kinds = ("classification", "regression", "ir", "triplet")
    labelled = [dataclasses.replace(TASK, type=kind).labelled for kind in kinds]
    assert labelled == [True, True, False, False]


def test_an_entry_of_tasks_json_has_tuples():
    entry = {f.name: None for f in dataclasses.fields(TaskInfo)}
    info = TaskInfo.from_dict(entry | {"type": "ir", "fields": ["title"], "labels": []})
    assert (info.fields, info.labels, info.labelled) == (("title",), (), False)
