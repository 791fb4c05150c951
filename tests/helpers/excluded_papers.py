"""A collection of which some papers, sentences and texts hold a word that no other has."""

import json
from pathlib import Path

import numpy as np

from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.prepare_settings import PrepareSettings

SECRET = "word199"
PAPERS = 70
DOI = "10.1234/abc.4"


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class ExcludedPapers:
    """Files of papers and of everything that says how they belong together, and what to exclude.

    ``p00`` to ``p03`` are excluded by id, ``p04`` by a DOI, ``p05`` by its title, ``p06`` and
    ``p07`` by a folder of searches that has them under other ids; ``q00`` has the text of ``p00``,
    ``q01`` the title of ``p01``.
    """

    excluded = (*(f"p{i:02}" for i in range(8)), "q00", "q01")

    def __init__(self, folder: Path, seed: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.rng = folder, np.random.default_rng(seed)
        self.names = [f"p{i:02}" for i in range(PAPERS)]
        self.papers = [self._paper(i) for i in range(PAPERS)]
        first, second = self.papers[:2]
        more = [
            {**first, "paper_id": "q00", "title": first["title"].upper() + "!"},
            {**second, "paper_id": "q01", "abstract": f"{self._words(9)} {SECRET}."},
        ]
        self.rows = [*self.papers, *more]
        everyone = [row["paper_id"] for row in self.rows]
        pairs = self.rng.choice(everyone, (400, 2))
        self.citations = [(a, b) for a, b in pairs.tolist() if a != b]
        self.files = {
            "papers": write_lines(folder / "papers.jsonl", self.rows),
            "contexts": write_lines(folder / "contexts.jsonl", self._contexts(everyone)),
            "fulltexts": write_lines(folder / "fulltexts.jsonl", self._documents()),
            "tasks": self._tasks(),
        }
        self.files["citations"] = folder / "citations.csv"
        self.files["citations"].write_text("".join(f"{a},{b}\n" for a, b in self.citations))

    def settings(self, to: Path, tokenizer: Path, exclude: list[str], **more) -> PrepareSettings:
        """What `prepare` is asked for: everything that it can make."""
        return PrepareSettings(
            **self.files,
            to=to,
            tokenizer=tokenizer,
            exclude=exclude,
            cocitation_mining=CocitationMining(
                cocitations_from="references", sentence_pairs="paper", min_words=1
            ),
            part_tokens=True,
            sentence_tokens=True,
            memory="1GB",
            threads=1,
            **more,
        )

    def places(self) -> list[str]:
        """A list and a folder that name the excluded papers."""
        title = self.papers[5]["title"].title().replace(" ", ", ")
        lines = [*self.names[:4], f"https://doi.org/{DOI.upper()}", title, "of no known paper"]
        (self.folder / "out.txt").write_text("\n".join(lines) + "\n")
        searches = self.folder / "searches"
        searches.mkdir(exist_ok=True)
        papers = [{"paper_id": f"e{i}", "title": self.papers[i]["title"]} for i in (6, 7)]
        papers.append({"paper_id": "e9", "title": "A title of no known paper"})
        write_lines(searches / "papers.jsonl", papers)
        write_lines(searches / "queries.jsonl", [{"query_id": "1", "paper_id": "e6"}])
        (searches / "qrels.tsv").write_text("1\t0\te7\t1\n")
        return [str(self.folder / "out.txt"), str(searches)]

    def _words(self, count: int) -> str:
        return " ".join(f"word{w}" for w in self.rng.integers(0, 150, count))

    def _paper(self, number: int) -> dict:
        secret = f" {SECRET}" if number < 8 else ""
        sentences = [f"{self._words(6)}{secret} so." for _ in range(4)]
        row = {
            "paper_id": f"p{number:02}",
            "title": f"word{150 + number % 40} {self._words(5)}{secret}",
            "abstract": sentences,
        }
        return row | ({"doi": DOI} if number == 4 else {})

    def _contexts(self, everyone: list[str]) -> list[dict]:
        """Sentences that cite two papers each: those that cite or stand in an excluded one tell."""
        rows = []
        for number in range(240):
            group = range(16) if number % 2 else range(8, 16)
            cited = [f"p{i:02}" for i in self.rng.choice(group, 2, replace=False)]
            citing = str(self.rng.choice(everyone))
            told = {citing, *cited} & set(self.excluded)
            text = f"{self._words(7)} {'abcdefghij'[number % 10]}{f' {SECRET}' if told else ''} so."
            rows.append({"text": text, "cited_ids": cited, "citing_id": citing})
        return rows

    def _documents(self) -> list[dict]:
        """Full texts: of papers by their ids, and one that has the title alone of one."""
        rows = [
            {"paper_id": row["paper_id"], "title": "", "text": self._text(row["paper_id"])}
            for row in self.papers
        ]
        title = self.papers[5]["title"]
        return [*rows, {"paper_id": "elsewhere", "title": title, "text": self._text("p05")}]

    def _text(self, paper_id: str) -> str:
        word = f" {SECRET}" if paper_id in self.excluded else ""
        return " ".join(f"{self._words(4)}{word}" for _ in range(12))

    def _tasks(self) -> Path:
        folder = self.folder / "tasks"
        folder.mkdir(exist_ok=True)
        texts = [
            {"title": row["title"], "abstract": " ".join(row["abstract"])} for row in self.papers
        ]
        labelled = [{**text, "target": float(n)} for n, text in enumerate(texts)]
        write_lines(folder / "year.jsonl", labelled)
        searches = []
        for _ in range(40):
            query, *others = self.rng.choice(len(texts), 7, replace=False).tolist()
            candidates = [{**texts[o], "score": int(at < 2)} for at, o in enumerate(others)]
            searches.append({"query": texts[query], "candidates": candidates})
        write_lines(folder / "near.jsonl", searches)
        near = {"name": "near", "type": "ir", "ctrl_token": "[PRX]"}
        year = {"name": "year", "type": "regression", "labels_field": "target"}
        tasks = [
            {**near, "data_files": {"train": "near.jsonl"}},
            {**year, "ctrl_token": "[RGN]", "data_files": {"train": "year.jsonl"}},
        ]
        (folder / "tasks_config.json").write_text(json.dumps(tasks))
        return folder
