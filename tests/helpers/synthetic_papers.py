"""A small synthetic collection, and the texts of its papers."""

from sciembed_train.synthetic import SyntheticSettings

SMALL = SyntheticSettings(papers=600, seed=3)


def text_of(row):
    abstract = row["abstract"] or ""
    return f"{row['title']} {abstract if isinstance(abstract, str) else ' '.join(abstract)}"


def words_of(row):
    return set(text_of(row).lower().replace(".", "").split())
