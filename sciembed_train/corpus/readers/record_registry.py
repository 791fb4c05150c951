"""The record formats that are known, in the order in which they are tried on a file's first row."""

from __future__ import annotations

from sciembed_train.corpus.readers.record_formats import RecordFormat
from sciembed_train.corpus.readers.records.arxiv import Arxiv
from sciembed_train.corpus.readers.records.bibtex import Bibtex
from sciembed_train.corpus.readers.records.crossref import Crossref
from sciembed_train.corpus.readers.records.openalex import OpenAlex
from sciembed_train.corpus.readers.records.pubmed import PubMed
from sciembed_train.corpus.readers.records.ris import Ris
from sciembed_train.corpus.readers.records.s2orc import S2orc
from sciembed_train.corpus.readers.records.scirepeval import SciRepEval
from sciembed_train.corpus.readers.records.semantic_scholar import SemanticScholar
from sciembed_train.corpus.readers.records.unarxive import UnarXive

# By the name that the setting ``format`` takes.
RECORD_FORMATS: dict[str, RecordFormat] = {
    "openalex": OpenAlex(),
    "crossref": Crossref(),
    "unarxive": UnarXive(),
    "s2orc": S2orc(),
    "arxiv": Arxiv(),
    "scirepeval": SciRepEval(),
    "semantic_scholar": SemanticScholar(),
    "pubmed": PubMed(),
    "bibtex": Bibtex(),
    "ris": Ris(),
}
