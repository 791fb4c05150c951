from sciembed_train.corpus import field_count
from sciembed_train.corpus.field_count import FieldCount


def test_the_most_frequent_fields_come_first_and_papers_without_one_are_counted(monkeypatch):
    monkeypatch.setattr(field_count, "SHOWN", 2)
    count = FieldCount()
    for fields in (["b", "a"], ["a"], ["c"], [], ["b", "a"]):
        count.add(fields)
    assert count.as_dict() == {
        "papers": {"a": 3, "b": 2},
        "other fields": 1,
        "papers without one": 1,
    }


def test_free_text_in_the_place_of_fields_takes_no_memory(monkeypatch):
    monkeypatch.setattr(field_count, "MOST", 3)
    count = FieldCount()
    for number in range(100):
        count.add([f"text {number}", "text 0"])
    assert len(count.papers) == 3
    assert count.papers["text 0"] == 101


def test_papers_without_any_field_say_nothing():
    count = FieldCount()
    count.add([])
    assert count.as_dict() == {}
