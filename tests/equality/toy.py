"""Invented papers, citations, full texts, tasks and judgements, and two tiny random models.

Everything follows from one seed by numpy's generator and plain Python. Nothing here imports the
package under test, so that the same inputs come out whatever becomes of it.
"""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = 200
TOPICS = 6
PAPERS = 120
FIELDS = ("biology", "physics", "history")
MARKS = ("(Roe, 2000)", "[3]", "(Doe and Roe, 1999)", "[1, 2]")


class Writer:
    """Writes texts of words that the tiny BERT knows, mostly those of a topic."""

    def __init__(self, *seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def words(self, low: int, high: int, topic: int | None = None) -> list[str]:
        """``low`` to ``high - 1`` words, two of three of the topic's own."""
        count = int(self.rng.integers(low, high))
        of_all = self.rng.integers(0, VOCABULARY, count)
        if topic is not None:
            own = self.rng.integers(0, 25, count) + 25 * topic
            of_all = np.where(self.rng.random(count) < 0.67, own, of_all)
        return [f"word{n}" for n in of_all]

    def sentence(self, topic: int | None = None, low: int = 4, high: int = 11) -> str:
        """A sentence with a comma now and then."""
        words = self.words(low, high, topic)
        if len(words) > 6 and self.rng.random() < 0.4:
            words[3] += ","
        return " ".join(words).capitalize() + "."

    def letters(self) -> str:
        """Four letters, for sentences that differ in digits alone are one to the mining."""
        return " ".join(self.rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 4))

    def sentences(self, low: int, high: int, topic: int | None = None) -> list[str]:
        """Several sentences."""
        return [self.sentence(topic) for _ in range(int(self.rng.integers(low, high)))]

    def some(self, values: list[Any], count: int) -> list[Any]:
        """``count`` of the values, each once."""
        return [values[n] for n in self.rng.choice(len(values), count, replace=False)]


def write_lines(path: Path, rows: list[Any]) -> Path:
    """JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_table(path: Path, rows: list[tuple[Any, ...]], delimiter: str = ",") -> Path:
    """CSV or TSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return path


def write_words(path: Path, words: list[str]) -> Path:
    """One a line."""
    path.write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    return path


def topic_of(number: int) -> int:
    return number % TOPICS


def name(number: int) -> str:
    return f"p{number:03d}"


def invented_papers() -> list[dict[str, Any]]:
    """Papers whose abstracts are lists, texts, null or missing; the last three have no text."""
    write = Writer(1)
    papers = []
    for n in range(PAPERS):
        topic = topic_of(n)
        paper: dict[str, Any] = {"paper_id": name(n), "year": 1990 + n % 30}
        paper["title"] = " ".join(write.words(3, 8, topic)).capitalize()
        sentences = write.sentences(2, 7, topic)
        if n % 17 == 16:
            paper["abstract"] = None
        elif n % 3 == 0:
            paper["abstract"] = " ".join(sentences)
        elif n % 29 != 28:
            paper["abstract"] = sentences
        papers.append(paper)
    papers += [{"paper_id": f"empty{n}", "title": "", "abstract": None} for n in range(3)]
    return papers


def invented_citations() -> list[tuple[str, str]]:
    """Citations mostly within a topic, with some of oneself, some twice, some of the unknown."""
    write = Writer(2)
    found = []
    for n in range(PAPERS):
        near = [m for m in range(PAPERS) if m != n and topic_of(m) == topic_of(n)]
        cited = write.some(near, 5) + [int(m) for m in write.rng.integers(0, PAPERS, 2)]
        found += [(name(n), name(m)) for m in cited]
    found += [*found[:7], (name(3), "unknown"), ("unknown", name(4)), (name(5), "empty0")]
    return found


def invented_contexts() -> list[dict[str, Any]]:
    """Citing sentences of which several cite the same papers, with marks of citation."""
    write = Writer(3)
    groups = []
    for g in range(110):
        near = [m for m in range(PAPERS) if topic_of(m) == topic_of(g)]
        groups.append([name(m) for m in write.some(near, 1 + g % 3)])
    rows = []
    for n in range(440):
        group = groups[int(write.rng.integers(len(groups)))]
        topic = topic_of(int(group[0][1:]))
        marks = MARKS[n % 4], MARKS[(n + 1) % 4]
        text = (
            f"Of {write.sentence(topic)[:-1].lower()} {marks[0]} says {write.letters()} {marks[1]}."
        )
        row: dict[str, Any] = {"text": text, "cited_ids": group, "citing_id": f"c{n // 2}"}
        if n % 3 == 0:
            row |= {"before": write.sentence(topic), "after": write.sentence(topic)}
        if n % 5 == 0:
            row["marker"] = marks[0]
        if n % 7 == 0:
            del row["citing_id"]
        if n % 31 == 0:
            row["cited_ids"] = [*group, "unknown"]
        rows.append(row)
    return [*rows, rows[10], {"text": "Too short.", "cited_ids": groups[1]}]


def invented_counts() -> list[tuple[Any, ...]]:
    """Pairs that are cited together, and how often."""
    write = Writer(4)
    rows: list[tuple[Any, ...]] = [("paper_a", "paper_b", "count")]
    for n in range(110):
        near = [m for m in range(PAPERS) if topic_of(m) == topic_of(n)]
        one, other = write.some(near, 2)
        rows.append((name(one), name(other), int(write.rng.integers(1, 9))))
    return rows


def synthetic_documents(count: int = 90) -> list[dict[str, Any]]:
    """Full texts of 60 to 260 words, one of them twice, one too short."""
    write = Writer(5)
    rows: list[dict[str, Any]] = []
    for n in range(count):
        text = " ".join(write.sentences(10, 38, topic_of(n)))
        row = {"paper_id": f"d{n:02d}", "text": text}
        if n % 4 == 0:
            row |= {"title": write.sentence(topic_of(n))[:-1], "abstract": write.sentence()}
        rows.append(row)
    rows.append({"paper_id": "again", "text": rows[1]["text"]})
    return [*rows, {"paper_id": "short", "text": "Word1 word2."}]


def marked(write: Writer, marks: list[tuple[str, str]], topic: int) -> dict[str, Any]:
    """A paragraph of three sentences, two of which cite, and where its marks stand."""
    text, spans = write.sentence(topic), []
    for n in range(2):
        text += " " + " ".join([*write.words(4, 8, topic), write.letters()]).capitalize()
        for key, mark in marks[2 * n : 2 * n + 2]:
            text += " and so "
            spans.append({"start": len(text), "end": len(text) + len(mark), "ref_id": key})
            text += mark
        text += "."
    return {"section": "Part", "text": text, "cite_spans": spans, "ref_spans": []}


def invented_s2orc(count: int = 24) -> list[dict[str, Any]]:
    """Records as S2ORC has them, which cite papers by their ids."""
    write = Writer(6)
    rows = []
    for n in range(count):
        near = [m for m in range(PAPERS) if topic_of(m) == topic_of(n)]
        entries, body = {}, []
        for part in range(3):
            keys = [f"b{4 * part + k}" for k in range(4)]
            cited = write.some(near, 4)
            entries |= {key: {"link": name(m)} for key, m in zip(keys, cited, strict=True)}
            marks = [(key, f"[{4 * part + k + 1}]") for k, key in enumerate(keys)]
            body.append(marked(write, marks, topic_of(n)))
        entries["b0"] = {"link": None}
        head = [{"text": write.sentence(topic_of(n)), "section": "Abstract", "cite_spans": []}]
        rows.append(
            {
                "paper_id": f"s{n:02d}",
                "title": write.sentence(topic_of(n))[:-1],
                "abstract": head,
                "body_text": body,
                "bib_entries": entries,
            }
        )
    return rows


def invented_unarxive(count: int = 8) -> list[dict[str, Any]]:
    """Records as unarXive has them, with markers of citations and formulas."""
    write = Writer(7)
    rows = []
    for n in range(count):
        near = [m for m in range(PAPERS) if topic_of(m) == topic_of(n)]
        keys = [f"{k:040x}" for k in range(4 * n, 4 * n + 4)]
        ids = [name(m) for m in write.some(near, 4)]
        entries = {
            key: {"ids": {"arxiv_id": paper, "doi": ""}}
            for key, paper in zip(keys, ids, strict=True)
        }
        body = marked(write, [(key, "{{cite:" + key + "}}") for key in keys], topic_of(n))
        body["text"] += " Let {{formula:f1}} be so (Fig. REF )."
        rows.append(
            {
                "paper_id": f"22{n:02d}.1",
                "metadata": {"title": f"On $\\beta$ {write.sentence()[:-1]}"},
                "abstract": {"section": "Abstract", "text": f" We show $x_{n}$. "},
                "body_text": [body],
                "bib_entries": entries,
                "ref_entries": {"f1": {"latex": f"\\alpha _{n} \\le 3", "type": "formula"}},
            }
        )
    return rows


def write_specter(folder: Path) -> Path:
    """SPECTER's own five files."""
    write = Writer(8)
    papers = [paper for paper in invented_papers() if "abstract" in paper][:60]
    ids = [paper["paper_id"] for paper in papers]
    metadata = {}
    for paper in papers:
        abstract = paper["abstract"]
        abstract = " ".join(abstract) if isinstance(abstract, list) else abstract
        metadata[paper["paper_id"]] = {**paper, "abstract": abstract}
    relations = {
        query: {
            other: {"count": int(write.rng.choice([1, 5]))}
            for other in write.some([i for i in ids if i != query], 9)
        }
        for query in ids[:40]
    }
    write_json(folder / "metadata.json", metadata)
    write_json(folder / "data.json", relations)
    for file, queries in (("train", ids[:30]), ("val", ids[30:35]), ("test", ids[35:40])):
        write_words(folder / f"{file}.txt", queries)
    return folder


def task_paper(write: Writer, number: int, topic: int, **more: Any) -> dict[str, Any]:
    """A record's paper; some have no abstract."""
    title = " ".join(write.words(3, 7, topic)).capitalize()
    abstract = " ".join(write.sentences(1, 4, topic)) if number % 5 else None
    return {"corpus_id": number, "title": title, "abstract": abstract, **more}


def task_records(kind: str, count: int) -> list[dict[str, Any]]:
    """Records of a task, by the name that SciRepEval's list has for such a one."""
    write = Writer(9, sum(map(ord, kind)))
    found: list[dict[str, Any]] = []
    for n in range(count):
        topic = n % TOPICS
        if kind == "year_pred":
            found.append(task_paper(write, n, topic, scaled_year=(n % 30) / 30))
        elif kind == "mesh":
            found.append(task_paper(write, n, topic, descriptor=FIELDS[topic % 3]))
        elif kind == "fos":
            some = sorted({FIELDS[topic % 3], FIELDS[topic % 2]})
            found.append(task_paper(write, n, topic, labels_text=some))
        elif kind == "search":
            query = " ".join(write.words(2, 5, topic))
            scored = [
                task_paper(
                    write, j, topic if j < 2 else int(write.rng.integers(TOPICS)), score=int(j < 2)
                )
                | {"venue": "Journal" if j % 2 else "", "year": 2000.0 + j}
                for j in range(7)
            ]
            found.append({"query": query, "session_id": n, "candidates": scored})
        else:
            near = [task_paper(write, 3 * n + k, topic) for k in range(2)]
            far = task_paper(write, 3 * n + 2, int(write.rng.integers(TOPICS)))
            found.append({"query": near[0], "pos": near[1], "neg": far})
    return found


TASKS: dict[str, tuple[int, dict[str, Any]]] = {
    "year_pred": (
        60,
        {"type": "regression", "labels_field": "scaled_year", "ctrl_token": "[RGN]"},
    ),
    "mesh": (
        90,
        {
            "type": "classification",
            "labels": "labels.txt",
            "labels_field": "descriptor",
            "ctrl_token": "[CLF]",
            "contrastive": True,
        },
    ),
    "fos": (
        60,
        {
            "type": "classification",
            "labels": "labels.txt",
            "labels_field": "labels_text",
            "multi_label": True,
            "ctrl_token": "[CLF]",
        },
    ),
    "search": (
        30,
        {
            "type": "ir",
            "input_fields": ["title", "abstract", "venue", "year"],
            "ctrl_token": {"query": "[QRY]", "candidates": "[PRX]"},
        },
    ),
    "specter": (60, {"type": "triplet", "ctrl_token": "[PRX]"}),
}


def write_tasks(folder: Path) -> Path:
    """A list of five tasks of every type, and one of a single task for labels of one's own."""
    folder.mkdir(parents=True)
    write_words(folder / "labels.txt", list(FIELDS))
    entries = []
    for kind, (count, said) in TASKS.items():
        write_lines(folder / f"{kind}.jsonl", task_records(kind, count))
        entries.append({"name": kind, "data_files": {"train": f"{kind}.jsonl"}, **said})
    write_json(folder / "own.json", [entries[1] | {"sample_size": {"train": 60}}])
    return write_json(folder / "tasks_config.json", entries)


def write_scirepeval(folder: Path, papers: list[dict[str, Any]]) -> Path:
    """A task of each type that SciRepEval scores."""
    write = Writer(10)
    texts = []
    for paper in papers[:60]:
        abstract = paper.get("abstract")
        abstract = " ".join(abstract) if isinstance(abstract, list) else abstract
        texts.append({"doc_id": paper["paper_id"], "title": paper["title"], "abstract": abstract})
    entries = []

    def labelled(task: str, kind: str, labels: list[Any], **more: Any) -> None:
        write_lines(folder / task / "meta.jsonl", texts)
        rows = [(text["doc_id"], label) for text, label in zip(texts, labels, strict=True)]
        write_table(folder / task / "train.csv", [("paper_id", "label"), *rows[:40]])
        write_table(folder / task / "test.csv", [("paper_id", "label"), *rows[40:]])
        data = {"meta": f"{task}/meta.jsonl", "test": task}
        entries.append({"name": task, "type": kind, "data": data, **more})

    def judged(task: str, kind: str, pools: dict[str, dict[str, int]], **more: Any) -> None:
        rows = [
            {"query_id": query, "cand_id": paper, "score": grade}
            for query, pool in pools.items()
            for paper, grade in pool.items()
        ]
        write_lines(folder / task / "test_qrel.jsonl", rows)
        data = {"meta": f"{task}/meta.jsonl", "test": task}
        entries.append({"name": task, "type": kind, "data": data, **more})

    classes = [topic_of(n) % 2 for n in range(60)]
    few = [{"sample_size": 8, "iterations": 3}]
    labelled("classes", "classification", classes, metrics=["f1", "f1_macro"], few_shot=few)
    several = [json.dumps([int(topic_of(n) == k) for k in range(3)]) for n in range(60)]
    labelled("labels", "classification", several, metrics=["f1_macro"], multi_label=True)
    years = [round(topic_of(n) + 0.1 * float(write.rng.random()), 3) for n in range(60)]
    labelled("numbers", "regression", years, metrics=["kendalltau", "mse", "pearsonr"])
    pools: dict[str, dict[str, int]] = {}
    for query in range(12):
        others = write.some([n for n in range(60) if n != query], 12)
        pools[name(query)] = {name(n): int(topic_of(n) == topic_of(query)) for n in others}
        pools[name(query)][name((query + TOPICS) % 60)] = 1
    write_lines(folder / "near" / "meta.jsonl", texts)
    judged("near", "proximity", pools, metrics=["map", "ndcg"])
    searches = [
        {
            "doc_id": f"q{n}",
            "query": " ".join(write.words(3, 6, topic_of(n))),
            "candidates": [texts[m] for m in write.some(list(range(60)), 8)],
        }
        for n in range(8)
    ]
    write_lines(folder / "search" / "meta.jsonl", searches)
    graded = {
        row["doc_id"]: {
            text["doc_id"]: int(topic_of(int(text["doc_id"][1:])) == topic_of(n)) * 2 + (k == 0)
            for k, text in enumerate(row["candidates"])
        }
        for n, row in enumerate(searches)
    }
    judged("search", "adhoc_search", graded, metrics=["ndcg"])
    write_lines(folder / "scirepeval_tasks.jsonl", entries)
    return folder


def write_retrieval(folder: Path, papers: list[dict[str, Any]]) -> Path:
    """Papers, searches in words and by a paper, and TREC lines of judgements."""
    write = Writer(11)
    write_lines(folder / "papers.jsonl", papers)
    queries: list[dict[str, Any]] = []
    lines = []
    for n in range(15):
        query: dict[str, Any] = {"query_id": f"r{n}"}
        if n % 4 == 3:
            query["paper_id"] = name(n)
        else:
            query["text"] = " ".join(write.words(3, 7, topic_of(n)))
        queries.append(query)
        for m in write.some(list(range(PAPERS)), 20):
            if m != n:
                lines.append(f"r{n} 0 {name(m)} {2 * int(topic_of(m) == topic_of(n)) + m % 2}")
    write_lines(folder / "queries.jsonl", queries)
    write_words(folder / "qrels.txt", lines)
    return folder


def write_judged(folder: Path, papers: list[dict[str, Any]]) -> None:
    """CSFCube's files in ``cube``, and RELISH's as Aspire released them in ``relish``."""
    write = Writer(12)
    labels = ("background_label", "method_label", "result_label")
    rows = []
    for paper in papers[:50]:
        listed = paper.get("abstract")
        if not isinstance(listed, list):
            listed = write.sentences(2, 6, topic_of(int(paper["paper_id"][1:])))
        told = [labels[int(k)] for k in write.rng.integers(0, 3, len(listed))]
        rows.append({**paper, "abstract": listed, "pred_labels": told})
    cube = folder / "cube"
    write_lines(cube / "abstracts-csfcube-preds.jsonl", rows)
    splits: dict[str, Any] = {}

    def pools(queries: list[int], size: int, best: int) -> dict[str, dict[str, list[Any]]]:
        found = {}
        for query in queries:
            cands = write.some([n for n in range(50) if n != query], size)
            near = [topic_of(n) == topic_of(query) for n in cands]
            drawn = write.rng.integers(0, best, size)
            grades = [best if same else int(g) for same, g in zip(near, drawn, strict=True)]
            grades[0] = best
            found[name(query)] = {"cands": [name(n) for n in cands], "relevance_adju": grades}
        return found

    for facet, queries in (("background", range(6)), ("method", range(3, 9))):
        write_json(cube / f"test-pid2anns-csfcube-{facet}.json", pools(list(queries), 16, 3))
        names = [f"{name(q)}_{facet}" for q in queries]
        half = len(names) // 2
        splits[facet] = {
            "fold1_dev": names[:half],
            "fold1_test": names[half:],
            "fold2_dev": names[half:],
            "fold2_test": names[:half],
        }
    write_json(cube / "evaluation_splits.json", splits)
    relish = folder / "relish"
    write_lines(relish / "abstracts-relish.jsonl", rows)
    write_json(relish / "test-pid2anns-relish.json", pools(list(range(10)), 14, 2))
    names = [name(q) for q in range(10)]
    write_json(relish / "relish-evaluation_splits.json", {"dev": names[:4], "test": names[4:]})


def write_bert(folder: Path, seed: int = 0) -> Path:
    """A random BERT of 2 layers, 32 wide, with a small word-piece vocabulary."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, BertTokenizerFast

    signs = list("abcdefghijklmnopqrstuvwxyz0123456789")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [f"word{n}" for n in range(VOCABULARY)] + [*signs, *".,-()[]"]
    vocab = {piece: n for n, piece in enumerate([*pieces, *(f"##{sign}" for sign in signs)])}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    BertTokenizerFast(tokenizer_object=backend, model_max_length=512).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def write_roberta(folder: Path, seed: int = 0) -> Path:
    """The same as a RoBERTa, whose tokenizer knows single bytes alone."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters]
    vocab = {piece: n for n, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    RobertaTokenizerFast(tokenizer_object=backend, model_max_length=512).save_pretrained(folder)
    torch.manual_seed(seed)
    config = RobertaConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=514,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
    )
    RobertaModel(config).save_pretrained(folder)
    return folder


def write_all(folder: Path) -> str:
    """Write every input; returns a checksum of all their files."""
    folder.mkdir(parents=True)
    papers = invented_papers()
    write_lines(folder / "papers.jsonl", papers)
    write_table(folder / "citations.csv", [("citing", "cited"), *invented_citations()])
    pairs = [("query", "positive", "negative")]
    pairs += [(name(n), name((n + TOPICS) % PAPERS), name((n + 7) % PAPERS)) for n in range(80)]
    write_table(folder / "pairs.tsv", pairs, "\t")
    write_lines(folder / "contexts.jsonl", invented_contexts())
    write_table(folder / "counts.tsv", invented_counts(), "\t")
    write_words(folder / "dev_ids.txt", [name(n) for n in range(4, PAPERS, 11)])
    write_words(folder / "test_ids.txt", [name(n) for n in range(5, PAPERS, 11)])
    write_words(folder / "exclude_ids.txt", [name(n) for n in (7, 8, 100)])
    documents = synthetic_documents()
    write_lines(folder / "documents.jsonl", documents)
    mixed = folder / "fulltexts"
    mixed.mkdir()
    write_words(mixed / "plain.txt", [row["text"] for row in documents[:9]] + [""])
    write_lines(mixed / "s2orc.jsonl", invented_s2orc())
    write_lines(mixed / "unarxive.jsonl", invented_unarxive())
    write_specter(folder / "specter")
    bad = [*papers[:40], {"title": "No id"}, {"paper_id": "bad", "title": 3}, *papers[40:]]
    write_lines(folder / "bad_papers.jsonl", bad)
    write_tasks(folder / "tasks")
    write_scirepeval(folder / "scirepeval", papers)
    write_retrieval(folder / "retrieval", papers)
    write_judged(folder / "judged", papers)
    write_bert(folder / "bert")
    write_roberta(folder / "roberta")
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
