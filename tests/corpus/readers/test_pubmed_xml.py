import gzip
import tracemalloc

import pytest

from sciembed_train.corpus.readers import pubmed_xml
from sciembed_train.corpus.readers.base import ReadOptions
from sciembed_train.corpus.readers.pubmed_xml import PubmedXml
from sciembed_train.errors import UserError

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2024//EN"
 "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_240101.dtd">
"""
ARTICLE = """<PubmedArticle>
<MedlineCitation Status="MEDLINE"><PMID Version="1">17</PMID>
<Article><Journal><JournalIssue><PubDate><Year>2001</Year></PubDate></JournalIssue></Journal>
<ArticleTitle>Growth of <i>E. coli</i> at 10<sup>5</sup> cells, p &lt; 0.05.</ArticleTitle>
<ELocationID EIdType="doi">10.1/other</ELocationID>
<Abstract><AbstractText Label="AIMS" NlmCategory="OBJECTIVE">To see.</AbstractText>
<AbstractText Label="UNLABELLED">Plain
 part.</AbstractText><AbstractText Label="EMPTY"/></Abstract>
</Article>
<CommentsCorrectionsList><CommentsCorrections RefType="Cites"><PMID>3</PMID></CommentsCorrections>
<CommentsCorrections RefType="CommentIn"><PMID>4</PMID></CommentsCorrections>
</CommentsCorrectionsList></MedlineCitation>
<PubmedData><ArticleIdList><ArticleId IdType="pubmed">17</ArticleId>
<ArticleId IdType="doi">10.1/x</ArticleId><ArticleId IdType="pmc">PMC5</ArticleId></ArticleIdList>
<ReferenceList><Reference><Citation>One</Citation>
<ArticleIdList><ArticleId IdType="pubmed">18</ArticleId></ArticleIdList></Reference>
<ReferenceList><Reference><ArticleIdList><ArticleId IdType="doi">10.1/y</ArticleId>
</ArticleIdList></Reference></ReferenceList>
<Reference><Citation>without an id</Citation></Reference></ReferenceList></PubmedData>
</PubmedArticle>
"""
BOOK = """<PubmedBookArticle><BookDocument><PMID>20</PMID>
<ArticleIdList><ArticleId IdType="bookaccession">NBK1</ArticleId></ArticleIdList>
<Book><BookTitle>A book</BookTitle><PubDate><MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate>
</Book><Abstract><AbstractText>Text.</AbstractText></Abstract></BookDocument></PubmedBookArticle>
"""
SMALL = "<PubmedArticle><MedlineCitation><PMID>{}</PMID></MedlineCitation></PubmedArticle>\n"


def whole(body, head=HEAD):
    return f"{head}<PubmedArticleSet>\n{body}</PubmedArticleSet>\n"


def read(path):
    return list(PubmedXml().rows(path, ReadOptions()))


def test_an_article_is_a_row(tmp_path):
    path = tmp_path / "p.xml"
    path.write_text(whole(ARTICLE + "<DeleteCitation><PMID>1</PMID></DeleteCitation>" + BOOK))
    (first, article), (second, book) = read(path)
    assert (first, second) == (1, 2)
    assert article == {
        "PMID": "17",
        "ArticleTitle": "Growth of E. coli at 10<sup>5</sup> cells, p < 0.05.",
        "AbstractText": "AIMS: To see. Plain part.",
        "Year": "2001",
        "DOI": "10.1/x",
        "PMC": "PMC5",
        "References": ["pmid:18", "doi:10.1/y", "pmid:3"],
    }
    assert (book["PMID"], book["ArticleTitle"], book["AbstractText"]) == ("20", "A book", "Text.")
    assert (book["Year"], book["DOI"], book["References"]) == ("1998 Dec-1999 Jan", None, [])


def test_citations_and_one_article_alone_are_read_too(tmp_path):
    citation = "<MedlineCitation><PMID>17</PMID></MedlineCitation>"
    path = tmp_path / "p.xml"
    for text in (f"<MedlineCitationSet>{citation * 2}</MedlineCitationSet>", ARTICLE, citation):
        path.write_text(text)
        assert {row["PMID"] for _, row in read(path)} == {"17"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_the_encoding_that_a_file_states_is_used(tmp_path, encoding):
    path = tmp_path / "p.xml"
    head = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>\n'
    text = whole("<PubmedArticle><MedlineCitation><PMID>é</PMID></MedlineCitation></PubmedArticle>")
    path.write_bytes((head + text.removeprefix(HEAD)).replace("\n", "\r\n").encode(encoding))
    assert [row["PMID"] for _, row in read(path)] == ["é"]


@pytest.mark.parametrize(
    "declared",
    [
        '<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">',
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        '<!ENTITY % a SYSTEM "http://localhost/x.dtd"> %a;',
    ],
)
def test_entities_are_refused(tmp_path, declared):
    path = tmp_path / "p.xml"
    body = "<PubmedArticle><MedlineCitation><PMID>&a;</PMID></MedlineCitation></PubmedArticle>"
    path.write_text(whole(body, f"<!DOCTYPE x [{declared}\n]>\n"))
    with pytest.raises(UserError, match=r"p\.xml:1: this XML declares the entity 'a'"):
        read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (whole(ARTICLE)[:-30], r"p\.xml:\d+: this is not XML.*(no element|unclosed)"),
        (whole("<PubmedArticle>&alpha;</PubmedArticle>"), r"p\.xml:5: .*undefined entity"),
        (whole("\n\n<PubmedArticle></x>"), r"p\.xml:7: .*mismatched tag"),
        (whole(ARTICLE) * 2, r"p\.xml:\d+: .*put each into a file of its own"),
        ("no XML at all", r"p\.xml:1: this is not XML"),
        ("<html><p/></html>", r"p\.xml: this XML is not PubMed's: it begins with <html>"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', r"p\.xml:1: .*encoding"),
        ("\0" * 100, r"p\.xml:1: this is not XML"),
        ("<PubmedArticleSet>\n\x01</PubmedArticleSet>", r"p\.xml:2: .*invalid token"),
    ],
)
def test_what_is_damaged_is_told_with_its_line(tmp_path, text, message):
    path = tmp_path / "p.xml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read(path)


def test_bytes_that_are_not_of_the_encoding_are_told(tmp_path):
    path = tmp_path / "p.xml"
    path.write_bytes(b"<PubmedArticleSet>\n<a>\xff</a></PubmedArticleSet>")
    with pytest.raises(UserError, match=r"p\.xml:2: this is not XML"):
        read(path)


@pytest.mark.parametrize("text", ["", "  \n\n"])
def test_an_empty_file_has_no_rows(tmp_path, text):
    (tmp_path / "p.xml").write_text(text)
    assert read(tmp_path / "p.xml") == []


def test_one_article_is_held_at_a_time(tmp_path):
    path = tmp_path / "p.xml.gz"
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        file.write(HEAD + "<PubmedArticleSet>")
        file.writelines(SMALL.format(i) for i in range(5_000))
        file.write("</PubmedArticleSet>")
    tracemalloc.start()
    count = sum(1 for _ in PubmedXml().rows(path, ReadOptions()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5_000
    assert peak < 2e6


@pytest.mark.parametrize("inside", [" ", "<a/>", "x"])
def test_a_file_that_goes_on_without_an_article_is_refused(tmp_path, monkeypatch, inside):
    monkeypatch.setattr(pubmed_xml, "MAX_ARTICLE", 1 << 20)
    path = tmp_path / "p.xml.gz"
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        file.write("<PubmedArticleSet><b>")
        for _ in range(30):
            file.write(inside * (100_000 // len(inside)))
    with pytest.raises(UserError, match=r"an article of more than 1 MB"):
        read(path)


def test_elements_within_elements_without_end_are_no_crash(tmp_path):
    path = tmp_path / "p.xml"
    deep = "<i>" * 50_000 + "x" + "</i>" * 50_000
    article = f"<PubmedArticle><MedlineCitation><Article><ArticleTitle>{deep}</ArticleTitle>"
    path.write_text(whole(article + "</Article></MedlineCitation></PubmedArticle>"))
    ((_, row),) = read(path)
    assert row["ArticleTitle"] == "x"
