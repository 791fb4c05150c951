import http.client
import json
import re
import socket
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

import sciembed_train as st
from sciembed_train import cli
from sciembed_train.errors import UserError
from sciembed_train.search import page_server
from sciembed_train.search.page_server import FILES, PageServer
from tests.helpers.browser import Browser
from tests.helpers.small_index import TITLES, write_index
from tests.helpers.tiny_models import write_tiny_bert

HOSTILE = [
    "<script>document.title = 'taken'</script>",
    "</script><img src=x onerror=\"document.title = 'taken'\">",
    "\"'><svg onload=document.title='taken'>",
    "javascript:document.title='taken'",
    "<a href='http://example.com/'>word1</a> &amp; &lt;b&gt; \u2028 \\u003cscript\\u003e",
    "",
]
PAGE = Path(page_server.__file__).parent / "page"


@pytest.fixture(scope="module")
def small(tiny_bert, tmp_path_factory):
    return write_index(tmp_path_factory.mktemp("index"), tiny_bert)


@pytest.fixture(scope="module")
def hostile(tiny_bert, tmp_path_factory):
    """So few papers that a search shows all of them."""
    return write_index(tmp_path_factory.mktemp("hostile"), tiny_bert, [*HOSTILE, *TITLES[:4]])


@contextmanager
def served(index, **settings):
    server = PageServer(st.open_index(index, device="cpu", **settings), 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def server(small):
    with served(small.index) as server:
        yield server


def get(server, path, method="GET", host=None):
    """Status, headers and content of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port)) as connection:
        headers = {} if host is None else {"Host": host}
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def told(server, path):
    status, _, content = get(server, path)
    assert status == 200, content
    return json.loads(content)


def test_a_text_and_a_paper_give_the_nearest_papers_with_their_places(server):
    answer = told(server, "/search?q=word3%20word4+word5")
    assert [hit["rank"] for hit in answer["nearest"]] == list(range(1, 11))
    assert answer["nearest"][0]["paper_id"] == "p3"
    assert answer["nearest"][0]["point"] == pytest.approx(answer["point"], abs=1e-3)
    like = told(server, "/similar?id=p3")
    assert like["title"] == TITLES[3]
    assert "p3" not in [hit["paper_id"] for hit in like["nearest"]]
    whole = told(server, "/map")
    assert len(whole["points"]) == len(whole["ids"]) == len(whole["titles"]) == 60
    assert whole["points"][whole["ids"].index("p3")] == pytest.approx(like["point"], abs=1e-4)
    facts = told(server, "/facts")
    assert (facts["papers"], facts["similarity"], facts["text"]) == (60, "euclidean", True)


def test_every_answer_forbids_what_is_not_its_own(server):
    for path in (*FILES, "/facts", "/map", "/nothing", "/search"):
        _, headers, _ = get(server, path)
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy.pop("default-src") == policy.pop("base-uri") == "'none'"
        assert policy.pop("frame-ancestors") == "'none'"
        assert set(policy.values()) == {"'self'"}
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers


def test_the_page_names_no_other_address_and_never_sets_html():
    for name in ("index.html", "page.css", "page.js"):
        text = (PAGE / name).read_text()
        assert not re.search(r"(?:https?:)?//(?!\S*w3\.org)[\w-]+\.\w", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
        assert not re.search(r"<\w[^>]*\s(?:on\w+|style)=|<style|<script>", text), name


@pytest.mark.parametrize(
    "host", ["example.com", "example.com:{port}", "localhost:1", "127.0.0.1.example.com", "[::1]"]
)
def test_a_name_of_another_machine_is_refused(server, host):
    status, _, content = get(server, "/map", host=host.format(port=server.server_port))
    assert status == 403
    assert b"127.0.0.1" in content
    assert b"word" not in content


@pytest.mark.parametrize("host", ["localhost:{port}", "LOCALHOST", "127.0.0.1"])
def test_names_of_this_machine_are_answered(server, host):
    assert get(server, "/", host=host.format(port=server.server_port))[0] == 200


def raw(server, request):
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            return answer.read()


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "NONSENSE"]
)
def test_only_get_is_answered(server, method):
    status, headers, _ = get(server, "/search?q=word1", method=method)
    assert (status, headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/search", 400),
        ("/search?q=", 400),
        ("/search?q=a&q=b", 400),
        ("/search?q=" + "a" * 4001, 400),
        ("/search?" + "&".join(f"a{n}=1" for n in range(30)), 400),
        ("/similar?id=nobody", 400),
        ("/page/../../paper_search.py", 404),
        ("/..%2fpage_server.py", 404),
        ("//example.com/map", 404),
    ],
)
def test_what_cannot_be_answered_is_told(server, path, status):
    found, headers, content = get(server, path)
    assert found == status
    assert headers["Content-Type"] == "application/json"
    assert json.loads(content)["error"]


def test_broken_requests_are_refused_with_the_same_headers(server):
    for request, status in (
        (b"GET / HTTP/1.1\r\n\r\n", 403),  # of no host
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET / and more HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"<script>\r\n\r\n", 400),
        (b"GET /\r\n", 403),  # as of the first HTTP
    ):
        answer = raw(server, request)
        assert int(answer.split(b" ")[1]) == status
        assert b"Content-Security-Policy" in answer
        assert b"nosniff" in answer
    two = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: example.com\r\n\r\n"
    assert b" 403 " in raw(server, two).splitlines()[0]
    assert get(server, "/facts")[0] == 200  # it goes on


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


def test_a_port_in_use_is_exit_2_and_one_message(small, server, capsys):
    words = ["search", "--index", str(small.index), "--device", "cpu", "--page", "--port"]
    assert cli.main([*words, str(server.server_port)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert f"--port {server.server_port} is in use" in printed.err


def test_an_index_without_a_model_is_searched_by_paper(small, tmp_path):
    first = small.vectors / "part-00000.npy"
    (tmp_path / "v.npy").write_bytes(first.read_bytes())
    (tmp_path / "v.ids.txt").write_text("".join(f"p{n}\n" for n in range(25)))
    st.build_index(tmp_path / "v.npy", tmp_path / "i")
    with served(tmp_path / "i") as server:
        facts = told(server, "/facts")
        assert not facts["text"]
        assert "names no model" in facts["why"]
        assert len(told(server, "/similar?id=p3")["nearest"]) == 10
        assert get(server, "/search?q=word")[0] == 400


def test_a_page_of_another_model_is_refused_before_it_is_served(small, tmp_path):
    other = write_tiny_bert(tmp_path / "other", seed=1)
    search = st.open_index(small.index, model=other, device="cpu")
    with pytest.raises(UserError, match="is an index of another model"):
        PageServer(search, 0)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def titles(browser):
    return browser.run("[...document.querySelectorAll('.title')].map(e => e.textContent)")


def test_a_browser_searches_follows_and_goes_back_by_keyboard(server, browser):
    browser.show(1100, 800)
    browser.open(server.address)
    browser.wait("document.getElementById('legend').textContent.includes('All 60 papers')")
    browser.wait("document.activeElement.id === 'query'")
    browser.type("word3 word4 word5")
    browser.press("Enter", 13, "\r")
    browser.wait("document.querySelectorAll('#results li').length === 10")
    assert titles(browser)[0] == TITLES[3]
    assert browser.run("location.search") == "?q=word3+word4+word5"
    for _ in range(2):  # the button, and the first link
        browser.press("Tab", 9)
    assert browser.run("document.activeElement.textContent") == "More like this"
    browser.press("Enter", 13, "\r")
    browser.wait(f"document.getElementById('status').textContent.includes('“{TITLES[3]}”')")
    assert TITLES[3] not in titles(browser)
    browser.run("history.back()")
    browser.wait(f"document.querySelector('.title')?.textContent === '{TITLES[3]}'")
    assert browser.run("document.getElementById('query').value") == "word3 word4 word5"
    browser.open(f"{server.address}?like=nobody")
    browser.wait("document.getElementById('status').className.includes('error')")


def test_a_browser_shows_hostile_titles_as_their_letters(hostile, browser):
    browser.events.clear()
    with served(hostile.index) as server:
        for path in ("?q=word1", "?like=p6"):
            browser.open(server.address + path)
            browser.wait(f"document.querySelectorAll('li').length === {10 - ('like' in path)}")
            assert {*HOSTILE[:-1], "(no title) p5"} <= set(titles(browser))
        browser.open(f"{server.address}?{urlencode({'q': HOSTILE[0]})}")
        browser.wait("document.querySelectorAll('li').length === 10")
        for number, title in enumerate(HOSTILE[:-1]):
            browser.open(f"{server.address}?like=p{number}")
            browser.wait("document.querySelectorAll('li').length === 9")
            assert f"“{title}”" in browser.run("document.getElementById('status').textContent")
        assert browser.run("document.querySelectorAll('script, img, svg, iframe').length") == 1
        assert browser.run("document.title") == "Search papers"
        assert all(url.startswith(server.address) for url in browser.requested())
    assert browser.faults() == []


def test_a_point_of_the_map_says_its_title_and_leads_to_the_papers_near_it(hostile, browser):
    with served(hostile.index) as server:
        browser.show(1100, 800)
        browser.open(f"{server.address}?q=word9")
        browser.wait("document.querySelectorAll('li').length === 10")
        for number in range(3):
            x, y = browser.run(
                "(() => { const box = canvas.getBoundingClientRect();"
                f"const [x, y] = frame.place(collection.points[{number}]);"
                "return [box.left + x, box.top + y]; })()"
            )
            browser.mouse("mouseMoved", x, y)
            browser.wait("!tip.hidden")
            assert browser.run("tip.textContent") in [*HOSTILE, *TITLES]
        browser.click(x, y)
        browser.wait("location.search.startsWith('?like=')")
        browser.wait("document.querySelectorAll('li').length === 9")


def test_a_browser_of_a_phone_and_in_the_dark(server, browser):
    browser.show(360, 740, phone=True, dark=True)
    browser.open(f"{server.address}?q=word9")
    browser.wait("document.querySelectorAll('li').length === 10")
    assert browser.run("document.documentElement.scrollWidth") <= 360
    dark = browser.run("getComputedStyle(document.body).backgroundColor")
    assert dark == "rgb(22, 24, 27)"


def test_a_server_that_has_ended_is_told(small, browser):
    with served(small.index) as server:
        browser.open(f"{server.address}?q=word9")
        browser.wait("document.querySelectorAll('#results li').length === 10")
    browser.run("go('?q=word1')")
    browser.wait("document.getElementById('status').textContent.startsWith('The server does not')")
