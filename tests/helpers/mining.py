"""What mining has to find, by loops over a small corpus."""

from collections import defaultdict

from sciembed_train.corpus.store.corpus_folder import Corpus


def training_pairs(corpus: Corpus) -> dict[int, set[int]]:
    """Every pair that training may call positive, by its query."""
    splits = corpus.paper_splits()
    pairs = {tuple(edge) for edge in corpus.citations().tolist() if splits[edge[0]] == 0}
    for a, b in corpus.cocitations("train").tolist():
        pairs |= {(a, b), (b, a)}
    pairs |= {tuple(row[:2]) for row in corpus.triplets("train").tolist()}
    by_query = defaultdict(set)
    for query, paper in pairs:
        if query != paper:
            by_query[query].add(paper)
    return by_query


def related(corpus: Corpus, query: int) -> set[int]:
    """Every paper that the default mask takes out."""
    edges = {tuple(edge) for edge in corpus.citations().tolist()}
    cited = defaultdict(set)
    for citing, other in edges:
        cited[citing].add(other)
    rows = list(corpus.papers())
    together = set()
    for split in ("train", "dev", "test"):
        together |= {tuple(pair) for pair in corpus.cocitations(split).tolist()}
    taken_out = {query}
    for other in range(corpus.n_papers):
        times = sum({query, other} <= papers for papers in cited.values())
        if (
            {(query, other), (other, query)} & (edges | together)
            or times >= 2
            or rows[query]["title"] == rows[other]["title"]
        ):
            taken_out.add(other)
    return taken_out
