"""A synthetic collection of papers of any size, where matching words is not enough.

Papers belong to topics, topics to fields. A topic is a handful of *concepts* of its field, and
every concept has a synonym in each of several *dialects*. A paper is written in one dialect, and
citations mostly go to papers of the same topic in another one: two papers that cite each other
share their concepts and few of their words. Which words are synonyms can be learned from
citations, and the words of a held-out paper are those of the others.

Everything follows from the settings and their seed. Papers are numbered by age, oldest first.
"""

from sciembed_train.synthetic.citation_graph import generate_collection, shuffle_cited
from sciembed_train.synthetic.collection import SyntheticCollection, SyntheticSettings
from sciembed_train.synthetic.collection_files import write_citations, write_collection
from sciembed_train.synthetic.untrained_backbone import train_tokenizer, write_bert

__all__ = [
    "SyntheticCollection",
    "SyntheticSettings",
    "generate_collection",
    "shuffle_cited",
    "train_tokenizer",
    "write_bert",
    "write_citations",
    "write_collection",
]
