"""A plan as an SVG file."""

from xml.etree import ElementTree

from sciembed_train.inference.plan_picture import draw

SPACE = "{http://www.w3.org/2000/svg}"
PLAN = [[0.5, 0.0], [0.0625, 0.3125], [0.0004, 0.1246]]
DISTANCES = [[1.0, 9.0], [3.5, 2.0], [8.0, 4.0]]
FIRST = ["One & the same <tag>.", "word " * 60, "Naïve \x00\x07 “signs” \U0001f9ea."]
SECOND = ["Other.", "word2 " * 70]


def drawn():
    shares = ([0.5, 0.375, 0.125], [0.5629, 0.4371])
    text = draw(("A <title>", ""), (FIRST, SECOND), PLAN, DISTANCES, shares, "cost 1")
    return ElementTree.fromstring(text)


def texts(svg):
    return [element.text or "" for element in svg.iter(f"{SPACE}text")]


def test_every_sentence_can_be_read_whole():
    written = " ".join(texts(drawn()))
    assert "One & the same <tag>." in written
    assert "Naïve  “signs” \U0001f9ea." in written
    assert "A: A <title>" in written
    assert sum(line.count("word") - line.count("word2") for line in texts(drawn())) == 60
    assert sum(line.count("word2") for line in texts(drawn())) == 70


def test_every_cell_has_its_number_and_the_largest_share_is_darkest():
    svg = drawn()
    assert {"50.0", "12.5", "31.2"} <= set(texts(svg))
    assert "0.0" not in texts(svg)
    told = {
        title.text: rectangle.get("fill")
        for rectangle in svg.iter(f"{SPACE}rect")
        for title in rectangle.iter(f"{SPACE}title")
    }
    for i, row in enumerate(PLAN):
        for j, moved in enumerate(row):
            name = f"A{i + 1} - B{j + 1}: {100 * moved:.2f} %, distance {DISTANCES[i][j]:.4g}"
            assert name in told

    def dark(name):
        return -int(next(fill for told_, fill in told.items() if told_.startswith(name))[1:3], 16)

    cells = [(i, j) for i in range(3) for j in range(2)]
    by_share = sorted(cells, key=lambda c: PLAN[c[0]][c[1]])
    assert sorted(cells, key=lambda c: dark(f"A{c[0] + 1} - B{c[1] + 1}")) == by_share


def test_the_file_needs_nothing_else_and_nothing_leaves_it():
    svg = drawn()
    assert not [e for e in svg.iter() if any("href" in name for name in e.attrib)]
    width, height = (float(svg.get(name)) for name in ("width", "height"))
    for element in svg.iter(f"{SPACE}rect"):
        if element.get("x"):
            x, y, w, h = (float(element.get(n)) for n in ("x", "y", "width", "height"))
            assert x >= 0
            assert y >= 0
            assert x + w <= width
            assert y + h <= height
    for element in svg.iter(f"{SPACE}text"):
        assert float(element.get("y")) <= height
