import pytest

from sciembed_train.corpus.citations.citation_columns import columns_of, find_columns
from sciembed_train.errors import UserError


def find(*rows, known=(), **given):
    found = find_columns("c.csv", [row.split(",") for row in rows], given, known.__contains__)
    assert found is not None
    return found.numbers, found.header, found.names


@pytest.mark.parametrize(
    ("header", "numbers"),
    [
        ("citing,cited", (0, 1)),
        ("cited_id,citing_id", (1, 0)),
        ("oci,citing,cited,creation", (1, 2)),
        (",source,target", (1, 2)),
        ("Citing Paper ID,Cited Paper ID", (0, 1)),
        ("citingcorpusid,citedcorpusid,isinfluential", (0, 1)),
        ("to,from", (1, 0)),
        ("paper_id,reference_id", (0, 1)),
        ("work_id,referenced_work_id", (0, 1)),
        ("citing_doi,cited_doi", (0, 1)),
    ],
)
def test_names_say_which_column_cites(header, numbers):
    names = tuple(header.split(",")[number] for number in numbers)
    assert find(header, "a,b,c,d") == (numbers, True, names)


@pytest.mark.parametrize(
    "first", ["a,b", "x,a", "1001,1002", "10.1000/x,10.1000/y", "W17,W18", "smith2001,jones1999"]
)
def test_a_first_line_of_ids_is_a_citation(first):
    assert find(first, known={"a"}) == ((0, 1), False, ("column 1", "column 2"))


@pytest.mark.parametrize("header", ["x,y", "id1,id2", "paper_a,paper_b", ",x,y", "citing,target"])
def test_an_unknown_header_is_refused_with_what_to_write(header):
    with pytest.raises(UserError) as error:
        find(header, "1,2")
    message = str(error.value)
    assert ", ".join(f"`{name}`" for name in header.split(",")) in message
    assert "--map citing=COLUMN --map cited=COLUMN" in message
    assert "max-bad-rows" not in message


def test_a_first_line_like_the_next_is_a_citation():
    assert find("p1,p2", "p3,p14")[1] is False
    with pytest.raises(UserError, match="no columns are called"):
        find("id1,id2", "p3,p14")


def test_columns_that_are_given_go_first():
    assert find("x,y", citing="y", cited="x") == ((1, 0), True, ("y", "x"))
    assert find("7,8,9", citing="3", cited="2") == ((2, 1), False, ("column 3", "column 2"))
    assert find("citing,cited", citing="cited", cited="citing")[0] == (1, 0)


@pytest.mark.parametrize(
    ("rows", "header"),
    [
        (("x_2020,from,to", "1,a,b"), True),  # the digits are of a column that is not asked for
        ((",citing,cited", "0,a,b"), True),
        ((",paper1,paper2", "0,a,b"), True),
        (("0,p1,p2", "1,p3,p4"), False),
        (("0,k,x", "1,x,y"), False),
        (("0,1001,x", "1,x,y"), False),
        (("n,7,8",), False),  # numbers are no names
    ],
)
def test_columns_by_number_have_a_header_where_the_first_line_is_no_citation(rows, header):
    _, found, names = find(*rows, known={"k"}, citing="2", cited="3")
    assert found is header
    assert names == (tuple(rows[0].split(",")[1:]) if header else ("column 2", "column 3"))


def test_an_id_that_is_the_number_of_a_column_is_no_name():
    assert find("3,7,2", "1,2,3", known=set("1237"), citing="2", cited="3")[:2] == ((1, 2), False)
    assert find("0,1", "7,2", citing="0", cited="1") == ((0, 1), True, ("0", "1"))


def test_columns_that_are_not_there_are_refused():
    with pytest.raises(UserError, match=r"no column of --map cited=z; it has `x`, `y`"):
        find("x,y", citing="x", cited="z")
    with pytest.raises(UserError, match="--map names `citing`, and not `cited` too"):
        find("x,y", citing="x")
    with pytest.raises(UserError, match="no column of --map cited=3"):
        find("7,8", citing="1", cited="3")


def test_a_column_that_counts_the_rows_is_not_taken_for_ids():
    with pytest.raises(UserError, match="its first column counts the rows") as error:
        find("0,1001,1002", "1,1002,1003", "2,1003,1004")
    assert "--map citing=2 --map cited=3" in str(error.value)
    assert find("5,1001,1002", "9,1002,1003", "11,1003,1004")[0] == (0, 1)


def test_one_column_is_refused():
    with pytest.raises(UserError, match="one column; a citation has two"):
        find("a b")


def test_a_file_without_rows_has_no_columns():
    assert find_columns("c.csv", [], {}, bool) is None


def test_names_in_no_known_pair_are_not_mixed():
    assert columns_of(["citing", "target"]) is None
    assert columns_of(["source", "cited"]) is None
