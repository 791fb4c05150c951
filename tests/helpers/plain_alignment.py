"""The equations of sentence alignment in plain loops."""


def plain_similarity(a, b, by):
    a, b = [float(x) for x in a], [float(x) for x in b]
    product = sum(x * y for x, y in zip(a, b, strict=True))
    if by == "cosine":
        return product / sum(x * x for x in a) ** 0.5 / sum(y * y for y in b) ** 0.5
    if by == "euclidean":
        return -(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5)
    return product


def plain_alignment(q, p, contexts, by):
    """The equations one similarity after the other; of equals the first."""

    def best(sentences):
        found, place = -float("inf"), -1
        for i, sentence in enumerate(sentences):
            for context in contexts:
                if (now := plain_similarity(sentence, context, by)) > found:
                    found, place = now, i
        return place

    found, both = -float("inf"), (-1, -1)
    for i, a in enumerate(q):
        for j, b in enumerate(p):
            if (now := plain_similarity(a, b, by)) > found:
                found, both = now, (i, j)
    return [best(q), best(p), *both]
