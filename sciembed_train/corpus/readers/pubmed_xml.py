"""PubMed's XML: one row an article, of which one is held at a time.

Entities are refused before anything is read: one may stand for gigabytes, or for another file.
PubMed declares none, and its DTD is never fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal
from xml.etree.ElementTree import Element, ParseError, XMLPullParser
from xml.parsers import expat

from sciembed_train.corpus.readers.base import FileReader, ReadOptions, Row
from sciembed_train.corpus.readers.files import open_bytes, reading
from sciembed_train.errors import UserError

SETS = ("PubmedArticleSet", "PubmedBookArticleSet", "MedlineCitationSet")
ARTICLES = ("PubmedArticle", "PubmedBookArticle", "MedlineCitation")
MAX_ARTICLE = 1 << 26  # bytes; those with thousands of authors have a few millions
_CHUNK = 1 << 16


class PubmedXml(FileReader):
    """Reads ``.xml`` files of PubMed: of its baseline and updates, and of ``efetch``.

    A row has ``PMID``, ``ArticleTitle``, ``AbstractText``, ``Year``, ``DOI``, ``PMC`` and
    ``References``, a list of ids with their prefix; those that an article lacks are null.
    """

    numbered_by: ClassVar[Literal["line", "row"]] = "row"

    def rows(self, path: Path, options: ReadOptions) -> Iterator[Row]:
        """Every article of a file; what else stands in it is left out."""
        root = _root(path)
        if root is None:
            return
        if root not in (*SETS, *ARTICLES):
            raise UserError(
                f"{path}: this XML is not PubMed's: it begins with <{root[:100]}>; expected "
                f"<{SETS[0]}>. Convert it, or take it out of the folder."
            )
        for number, article in enumerate(_articles(path), 1):
            yield number, _row(article)


def _root(path: Path) -> str | None:
    """The name of the first element; None for an empty file.

    Raises:
        UserError: an entity is declared before it, or it is not XML.
    """
    names: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, _: names.append(name)

    def refuse_entity(name: str, *_: Any) -> None:
        # At once: if the entity stands for too much, the parser would raise its own error first.
        raise UserError(
            f"{path}:{parser.CurrentLineNumber}: this XML declares the entity {name[:100]!r}, "
            "which may stand for gigabytes or for another file, so it is not read. PubMed's files "
            "declare none: fetch it again."
        )

    parser.EntityDeclHandler = refuse_entity
    blank = True
    with reading(path), open_bytes(path) as file:
        while not names:
            chunk = file.read(_CHUNK)
            blank = blank and not chunk.strip(b" \t\r\n\xef\xbb\xbf")
            if not chunk and blank:
                return None
            try:
                parser.Parse(chunk, not chunk)
            except expat.ExpatError as error:
                raise _damaged(path, error.lineno, error) from error
            except UserError:
                raise
            except (ValueError, LookupError) as error:
                raise _damaged(path, 1, error) from error
    return names[0]


def _articles(path: Path) -> Iterator[Element]:
    """The articles, each forgotten when the next one is read."""
    with reading(path), open_bytes(path) as file:
        parser = XMLPullParser(("start", "end"))
        root: Element | None = None
        depth, size, chunk = 0, 0, b"\n"
        level = 0  # of the articles: the root, or the members of a set
        while chunk:
            chunk = file.read(_CHUNK)
            size += len(chunk)
            for event, element in _events(parser, chunk, path):
                if event == "start":
                    depth += 1
                    if root is None:
                        root, level = element, int(element.tag in SETS)
                    continue
                depth -= 1
                if depth == level and element.tag in ARTICLES:
                    yield element
                if depth == level == 1 and root is not None:
                    root.clear()
                    size = 0
            if size > MAX_ARTICLE:
                raise UserError(
                    f"{path}: an article of more than {MAX_ARTICLE >> 20} MB; expected elements "
                    f"<{ARTICLES[0]}>. The file is damaged: fetch it again."
                )


def _events(parser: XMLPullParser, chunk: bytes, path: Path) -> Iterator[tuple[str, Any]]:
    try:
        if chunk:
            parser.feed(chunk)
        else:
            parser.close()
        for event in parser.read_events():
            yield event[0], event[1]  # pyright: ignore[reportGeneralTypeIssues]
    except ParseError as error:
        raise _damaged(path, error.position[0], error) from error
    except (ValueError, LookupError) as error:
        raise _damaged(path, 1, error) from error


def _damaged(path: Path, line: int, error: Exception) -> UserError:
    problem = str(error).partition(": line")[0]
    advice = "Fetch the file again."
    if "junk after" in problem or "declaration not at start" in problem:
        advice = "If it is several answers one after another, put each into a file of its own."
    return UserError(f"{path}:{line}: this is not XML that can be read: {problem}. {advice}")


def _row(article: Element) -> dict[str, Any]:
    """The fields of an article, a book's chapter, or a citation alone."""
    citation = _first(article, "MedlineCitation", "BookDocument")
    if citation is None:
        citation = article
    data = _first(article, "PubmedData", "PubmedBookData")
    article_ids = [
        *(data.iterfind("ArticleIdList/ArticleId") if data is not None else ()),
        *citation.iterfind("ArticleIdList/ArticleId"),
    ]
    ids = {article_id.get("IdType"): _text(article_id) for article_id in reversed(article_ids)}
    location = citation.find("Article/ELocationID[@EIdType='doi']")
    titles = ("Article/ArticleTitle", "ArticleTitle", "Article/VernacularTitle", "Book/BookTitle")
    return {
        "PMID": _text(citation.find("PMID")),
        "ArticleTitle": next((text for t in titles if (text := _text(citation.find(t)))), None),
        "AbstractText": _abstract(citation),
        "Year": _year(citation),
        "DOI": ids.get("doi") or _text(location),
        "PMC": ids.get("pmc"),
        "References": [*_references(data), *_cited(citation)],
    }


def _first(element: Element, *names: str) -> Element | None:
    """The first of the named children that an element has."""
    return next((child for name in names if (child := element.find(name)) is not None), None)


def _text(element: Element | None) -> str | None:
    """The text of an element and of those in it, on one line; None if there is none.

    Subscripts and superscripts keep their tags, which cleaning reads: 10<sup>5</sup> is not 105.
    """
    if element is None:
        return None
    for tag in ("sup", "sub"):
        for script in element.iter(tag):
            script.text = f"<{tag}>{script.text or ''}"
            script.tail = f"</{tag}>{script.tail or ''}"
    return " ".join("".join(element.itertext()).split()) or None


def _abstract(citation: Element) -> str | None:
    """The parts of the abstract, each after its label."""
    abstract = _first(citation, "Article/Abstract", "Abstract")
    parts = []
    for part in abstract.iterfind("AbstractText") if abstract is not None else ():
        label, text = part.get("Label"), _text(part)
        if text:
            labelled = label and label.upper() != "UNLABELLED"
            parts.append(f"{label}: {text}" if labelled else text)
    return " ".join(parts) or None


def _year(citation: Element) -> str | None:
    """The year of the issue, else of the article, else of the book."""
    places = ("Article/Journal/JournalIssue/PubDate", "Article/ArticleDate", "Book/PubDate")
    for place in places:
        for part in ("Year", "MedlineDate"):
            if text := _text(citation.find(f"{place}/{part}")):
                return text
    return None


def _references(data: Element | None) -> Iterator[str]:
    """The PMID, else the DOI, of every cited work; lists of them may be nested."""
    for reference in data.iter("Reference") if data is not None else ():
        ids = {i.get("IdType"): _text(i) for i in reference.iterfind("ArticleIdList/ArticleId")}
        if ids.get("pubmed"):
            yield f"pmid:{ids['pubmed']}"
        elif ids.get("doi"):
            yield f"doi:{ids['doi']}"


def _cited(citation: Element) -> Iterator[str]:
    """The PMIDs of cited works, as files before 2019 name them."""
    for comment in citation.iterfind("CommentsCorrectionsList/CommentsCorrections"):
        if comment.get("RefType") == "Cites" and (pmid := _text(comment.find("PMID"))):
            yield f"pmid:{pmid}"
