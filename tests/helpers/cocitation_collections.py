"""Small collections of papers, contexts, pairs and citations, and their mining."""

import json
import random
from hashlib import blake2b

from hypothesis import strategies as st

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.citations.citation_mentions import mask_mentions_in
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.prepare_settings import PrepareSettings


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_collection(folder, world):
    folder.mkdir(parents=True, exist_ok=True)
    files = {"papers": write_lines(folder / "papers.jsonl", world["papers"])}
    if world["contexts"]:
        files["contexts"] = write_lines(folder / "contexts.jsonl", world["contexts"])
    if world["given"]:
        files["cocitations"] = write_lines(folder / "given.jsonl", world["given"])
    if world["citations"]:
        (folder / "citations.csv").write_text("".join(f"{a},{b}\n" for a, b in world["citations"]))
        files["citations"] = folder / "citations.csv"
    for name in ("dev", "test", "exclude"):
        if world[name]:
            (folder / f"{name}.txt").write_text("".join(f"{i}\n" for i in sorted(world[name])))
            kind = name if name == "exclude" else f"{name}_ids"
            files[kind] = str(folder / f"{name}.txt")
    return files


def mine(folder, world, mining, **values):
    files = write_collection(folder, world)
    held_out = {"dev_share": 0.0, "test_share": 0.0, "memory": "1GB", "threads": 1}
    return prepare(
        PrepareSettings(
            **files, to=folder / "corpus", cocitation_mining=mining, **(held_out | values)
        )
    )


def digest(text):
    return 1 + (int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 2)


def split_of(pair, world):
    if set(pair) & world["test"]:
        return "test"
    return "dev" if set(pair) & world["dev"] else "train"


def stored(context, mining):
    """A context as it is stored: masked if the settings say so."""
    if not mining.mask_mentions:
        return context
    names = ("text", "before", "after")
    return {**context, **{name: mask_mentions_in(context[name]) for name in names}}


NAMES = [f"p{i}" for i in range(9)]
id_lists = st.lists(st.sampled_from([*NAMES, "unknown"]), max_size=6)


@st.composite
def worlds(draw):
    papers = [
        {"paper_id": name, "title": draw(st.sampled_from([f"a title of {name}", name, ""]))}
        for name in NAMES
    ]
    papers[0]["title"] = "some paper has a title"
    contexts = [
        {
            "text": f"{draw(st.sampled_from(['see', 'see (12)', 'so we see (7)', 'a b c d [1]']))}",
            "cited_ids": draw(id_lists),
            "citing_id": draw(st.sampled_from(["", "x", "y", "p1"])),
            "before": draw(st.sampled_from(["", "Before."])),
            "after": "",
        }
        for _ in range(draw(st.integers(0, 14)))
    ]
    pair = st.tuples(st.sampled_from([*NAMES, "unknown"]), st.sampled_from(NAMES))
    given = [
        {"paper_a": a, "paper_b": b, "count": draw(st.integers(0, 3))}
        for a, b in draw(st.lists(pair, max_size=8))
    ]
    citations = draw(st.lists(pair, min_size=1, max_size=25))
    held_out = draw(st.lists(st.sampled_from(["dev", "test", "", "", ""]), min_size=9, max_size=9))
    world = {"papers": papers, "contexts": contexts, "given": given, "citations": citations}
    for split in ("dev", "test"):
        world[split] = {n for n, s in zip(NAMES, held_out, strict=True) if s == split}
    world["exclude"] = draw(st.sets(st.sampled_from(NAMES[1:]), max_size=2))
    if world["exclude"] and draw(st.booleans()):
        world["exclude"].add("unknown")
    references = draw(st.booleans()) or not (contexts or given)
    mining = CocitationMining(
        cocitations_from="references" if references else "given",
        max_group=draw(st.integers(2, 6)),
        min_words=draw(st.integers(0, 3)),
        max_words=draw(st.integers(3, 6)),
        require_bracket=draw(st.booleans()),
        one_per_citing=draw(st.booleans()),
        min_contexts=draw(st.integers(1, 2)),
        min_count=draw(st.integers(1, 2)),
        mask_mentions=draw(st.booleans()),
    )
    return world, mining


def big_world(seed=0, papers=150, contexts=600):
    rng = random.Random(seed)
    names = [f"n{i}" for i in range(papers)]
    world = {
        "papers": [{"paper_id": n, "title": rng.choice([n, n, n, ""])} for n in names],
        "contexts": [
            {
                "text": f"{rng.choice('abc')} b c d e (Roe, {rng.randint(1990, 2020)})",
                "cited_ids": rng.sample(names[: papers // 4], rng.randint(1, 6)),
                "citing_id": rng.choice(["", *names[:20]]),
                "before": "",
                "after": rng.choice(["", "Then."]),
            }
            for _ in range(contexts)
        ],
        "given": [
            {"paper_a": rng.choice(names), "paper_b": rng.choice(names), "count": 2}
            for _ in range(200)
        ],
        "citations": [(rng.choice(names), rng.choice(names)) for _ in range(900)],
        "dev": set(names[:8]),
        "test": set(names[8:16]),
        "exclude": set(names[16:20]),
    }
    world["contexts"] += world["contexts"][:30]  # some again
    return world


SENTENCE = "word {} of a sentence that cites"


def sentence_collection(rows, names="abcd", **held_out):
    """A collection of contexts, rows of ``text, cited_ids, citing_id``."""
    return {
        "papers": [{"paper_id": n, "title": n} for n in names],
        "contexts": [
            {"text": text, "cited_ids": list(cited), "citing_id": citing, "before": "", "after": ""}
            for text, cited, citing in rows
        ],
        "given": [],
        "citations": [],
        **{name: held_out.get(name, set()) for name in ("dev", "test", "exclude")},
    }
