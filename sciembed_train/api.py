"""The functions of ``import sciembed_train as st``; the commands call these.

Each imports what it needs when it is called, so that importing the package imports no torch. What
is wrong with the caller's input is raised as `UserError`, with the message of the command line.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sciembed_train.corpus.store.corpus_folder import Corpus
    from sciembed_train.evaluation.scores import Scores
    from sciembed_train.evaluation.suite.suite_results import SuiteResults
    from sciembed_train.export.export_checkpoint import Export, Layout
    from sciembed_train.export.merge import Merge
    from sciembed_train.export.push import Pushed
    from sciembed_train.hard_negatives.mining_summary import Mined
    from sciembed_train.inference.embed_file import Embeddings
    from sciembed_train.inference.embed_shards import EmbeddingShards
    from sciembed_train.inference.options import Dtype, EmbedSettings
    from sciembed_train.inference.paper_encoder import PaperEncoder
    from sciembed_train.sampling.related_mask import RelatedMask
    from sciembed_train.search.build_index import BuiltIndex
    from sciembed_train.search.index_settings import Kind
    from sciembed_train.search.paper_search import PaperSearch
    from sciembed_train.training.run import Run

Pathlike = str | Path


def prepare(
    to: Pathlike, recipe: Pathlike | None = None, progress: bool = False, **settings: Any
) -> Corpus:
    """Check papers, citations and texts, mine examples, tokenise, and write a corpus.

    Args:
        to: the corpus folder to make; one that is whole and of the same files is opened.
        recipe: what to mine and how to tokenise; without it, triplets where there are citations,
            and tokens where there is a ``tokenizer``.
        progress: report each stage on standard error.
        **settings: fields of `PrepareSettings`, such as ``papers``, ``citations``, ``tokenizer``
            and ``seed``; they stand above the recipe's.

    Returns:
        The corpus, opened.

    Raises:
        UserError: a file or a setting cannot be used.

    Example:
        >>> corpus = st.prepare(
        ...     "corpus", papers="papers.jsonl", citations="citations.csv", tokenizer="my_encoder"
        ... )
        >>> corpus.n_papers
        2000
    """
    from sciembed_train.corpus.build import prepare as build
    from sciembed_train.corpus.prepare_settings import PrepareSettings
    from sciembed_train.errors import UserError
    from sciembed_train.progress import Progress

    names = [field.name for field in dataclasses.fields(PrepareSettings)]
    for name in settings:
        if name not in names:
            raise UserError(f"prepare has no setting {name!r}; it has {', '.join(names)}.")
    if recipe is None:
        return build(PrepareSettings(**settings, to=to), Progress(not progress))
    from sciembed_train.config.recipe_options import RecipeCommandLine, prepare_settings
    from sciembed_train.sampling.data_settings import DataSettings
    from sciembed_train.training.start_encoder import settle_start

    read = RecipeCommandLine("prepare", "").read(["-c", str(recipe)])
    settle_start(read)
    encoder = read.encoder if read.backbone else None
    made = prepare_settings(read.get(DataSettings), encoder, **settings, to=to)
    return build(made, Progress(not progress))


def fit(
    recipe: Pathlike | Iterable[Pathlike],
    settings: Mapping[str, Any] | None = None,
    *,
    run: str | None = None,
    root: Pathlike | None = None,
    resume: bool | Pathlike = False,
    quiet: bool = False,
) -> Run:
    """Train a recipe, validate on the way, and export the encoder.

    Args:
        recipe: a file, the name of a shipped recipe such as ``specter``, or several of these (a
            recipe and a machine), of which a later one stands above an earlier.
        settings: keys of the command line to values, such as
            ``{"data.papers": "papers.jsonl", "trainer.max_steps": 1000}``.
        run: the name of the run; the recipe's by default.
        root: the folder of runs; ``$SCIEMBED_CHECKPOINTS`` or ``checkpoints`` by default.
        resume: continue the run from its last checkpoint, or from the one of this path.
        quiet: no progress and no notes.

    Returns:
        The run: its folder, checkpoint, export and validation scores.

    Raises:
        UserError: a setting or file cannot be used, or the run exists and ``resume`` is not set.
        KeyboardInterrupt: a signal ended the training; the run can be resumed.

    Example:
        >>> run = st.fit("specter", {
        ...     "data.papers": "papers.jsonl",
        ...     "data.citations": "citations.csv",
        ...     "model.encoder.backbone": "my_encoder",
        ... })
        >>> run.scores["val/map"]
        0.41
    """
    from sciembed_train.config.recipe_options import RecipeCommandLine
    from sciembed_train.training.fit import fit as train
    from sciembed_train.training.run import Run

    recipes = [recipe] if isinstance(recipe, str | Path) else list(recipe)
    words = [word for file in recipes for word in ("-c", str(file))]
    options: dict[str, Any] = dict(settings or {})
    options |= {} if run is None else {"run": run}
    options |= {} if root is None else {"root": root}
    if resume is not False:
        options["ckpt_path"] = "last" if resume is True else resume
    for key, value in options.items():
        words += [f"--{key}", _word(value)]
    words += ["--quiet"] if quiet else []
    code, folder = train(RecipeCommandLine("fit", "", trains=True).read(words))
    if code:
        raise KeyboardInterrupt(f"training ended with code {code}; resume the run in {folder}")
    return Run.open(folder)


def _word(value: Any) -> str:
    """A value as a word of a command line."""
    if value is None or isinstance(value, bool | list | tuple | dict):
        return json.dumps(value)
    return str(value)


def load_encoder(folder: Pathlike, **settings: Any) -> PaperEncoder:
    """Load an encoder for use in Python.

    Args:
        folder: a model folder, a run folder or a hub name.
        **settings: fields of `EmbedSettings`, such as ``device``, ``precision``, ``max_length``,
            ``format_token`` and ``backend``.

    Returns:
        An encoder with ``encode(papers, progress=True)``.

    Raises:
        UserError: no such model, no such device, or a setting is out of its range.

    Example:
        >>> encoder = st.load_encoder("checkpoints/specter")
        >>> encoder.encode([{"title": "Attention", "abstract": None}]).shape
        (1, 768)
    """
    from sciembed_train.inference.options import EmbedSettings
    from sciembed_train.inference.paper_encoder import PaperEncoder

    return PaperEncoder(folder, EmbedSettings(**settings))


def embed(
    model: Pathlike,
    input: Pathlike,
    to: Pathlike,
    *,
    max_bad_rows: int = 0,
    restart: bool = False,
    shard_size: int = 100_000,
    shards: str | None = None,
    dtype: Dtype = "float32",
    progress: bool = False,
    **settings: Any,
) -> Embeddings | EmbeddingShards:
    """Write the embeddings of a file of papers; a run that was killed continues.

    Args:
        model: a model folder, a run folder or a hub name.
        input: papers with ``paper_id``, ``title``, ``abstract``: JSON Lines, CSV, TSV or Parquet.
        to: the file to write: ``.jsonl``, ``.npy`` (with ``.ids.txt``) or ``.parquet``; or a name
            without an ending, for a folder of shards that several processes can write together.
        max_bad_rows: malformed rows that are left out before the file is refused.
        restart: discard what an unfinished run left.
        shard_size: papers of a shard.
        shards: this process's share of the shards, such as ``3/8``; by default what torchrun or a
            SLURM array says, else all that are free.
        dtype: of the stored numbers: ``float32``, ``float16``, ``int8`` or ``binary``.
        progress: report the progress on standard error.
        **settings: fields of `EmbedSettings`, such as ``device`` and ``precision``.

    Raises:
        UserError: the model, the input or the target cannot be used.

    Example:
        >>> print(st.embed("my_encoder", "papers.jsonl", "vectors.npy"))
        2,000 embeddings of width 768 in vectors.npy (ids in vectors.ids.txt).
    """
    from sciembed_train.inference.embed_file import embed_file
    from sciembed_train.inference.embed_shards import embed_shards
    from sciembed_train.inference.options import EmbedFileSettings, EmbedSettings

    files = EmbedFileSettings(model, input, to, max_bad_rows, restart, shard_size, shards, dtype)
    write = embed_shards if files.in_shards else embed_file
    return write(files, EmbedSettings(**settings), quiet=not progress)


def build_index(
    vectors: Pathlike,
    to: Pathlike,
    kind: Kind = "flat",
    *,
    papers: Pathlike | None = None,
    model: Pathlike | None = None,
    similarity: Literal["euclidean", "cosine"] | None = None,
    max_bad_rows: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> BuiltIndex:
    """Write a FAISS index of stored vectors, and measure its recall.

    Args:
        vectors: what `embed` wrote: a folder of shards, or an ``.npy`` file with its ids.
        to: the folder to write.
        kind: ``flat``, ``ivf`` or ``hnsw``.
        papers: the papers with their titles, which a search shows.
        model: the model of vectors whose files do not name it.
        similarity: what vectors are compared by; by default what the model records.
        max_bad_rows: malformed rows of the papers that are left out before they are refused.
        overwrite: replace an earlier index.
        progress: report each stage on standard error.

    Raises:
        UserError: the vectors, the papers or the model cannot be used.

    Example:
        >>> st.build_index("vectors", "index", "ivf", papers="papers.jsonl").recall
        0.97
    """
    from sciembed_train.search.build_index import build_index as build
    from sciembed_train.search.index_settings import IndexSettings

    settings = IndexSettings(vectors, to, kind, papers, model, similarity, max_bad_rows, overwrite)
    return build(settings, quiet=not progress)


def open_index(
    index: Pathlike, model: Pathlike | None = None, device: str = "auto", **settings: Any
) -> PaperSearch:
    """Open an index to search in it.

    Args:
        index: a folder that `build_index` wrote.
        model: the model of its vectors; by default the one that the index names.
        device: of the model, which is loaded with the first text.
        **settings: ``format_token``, the format of task that texts are embedded for.

    Raises:
        UserError: there is no index.

    Example:
        >>> print(st.open_index("index").by_text("attention", top=3))
    """
    from sciembed_train.search.paper_search import PaperSearch

    return PaperSearch(index, model, device, **settings)


def evaluate(
    model: Pathlike | None,
    benchmark: str,
    data: Pathlike,
    *,
    to: Pathlike | None = None,
    progress: bool = False,
    **settings: Any,
) -> Scores:
    """Score a model, a baseline or a ranking on a benchmark.

    Args:
        model: a model folder, a run folder, a hub name, or the baselines ``bm25`` and ``random``;
            None with ``ranking`` or ``embeddings``.
        benchmark: its name, such as ``citations``; `registry.BENCHMARKS` has them all.
        data: the benchmark's folder.
        to: a JSON file for the scores, every query's among them.
        progress: report the progress on standard error.
        **settings: fields of `EvaluateSettings`, such as ``papers``, ``split``, ``tasks``,
            ``ranking``, ``embeddings``, ``run_to``, ``embed`` and ``score``.

    Raises:
        UserError: the model, the data or a setting cannot be used.

    Example:
        >>> st.evaluate("checkpoints/specter", "citations", "corpus")["citations/map"]
        0.41
    """
    from sciembed_train.errors import UserError
    from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
    from sciembed_train.full_disk import told_full_disk
    from sciembed_train.inference.output_file import writable, write_json

    target = None if to is None else writable(Path(to))
    name = None if model is None else str(model)
    request = EvaluateSettings(benchmark, data, name, quiet=not progress, **settings)
    if request.run_to is not None:
        run = writable(Path(request.run_to), "--run_to")
        if target is not None and run.absolute() == target.absolute():
            raise UserError(f"--to and --run_to both name {run}; give them two names.")
    from sciembed_train.evaluation.run_benchmark import run_benchmark

    scores = run_benchmark(request)
    if target is not None:
        values = ", ".join(f"{metric} {value:.4f}" for metric, value in scores.metrics.items())
        safe = f"The scores are {values}. Make room and run the same command again for the file."
        with told_full_disk(target, safe):
            write_json(target, scores.as_dict())
    return scores


def evaluate_suite(
    suite: Pathlike,
    model: Pathlike | Sequence[Pathlike],
    to: Pathlike,
    *,
    embeddings: Pathlike | Sequence[Pathlike] = (),
    progress: bool = False,
    embed: EmbedSettings | None = None,
    **settings: Any,
) -> SuiteResults:
    """Score several models on every benchmark of a suite, and compare them with the first.

    Args:
        suite: a folder with a folder for each benchmark, or a YAML file that lists them.
        model: model folders, run folders, hub names, ``bm25`` and ``random``; or one of these;
            none with ``embeddings``.
        to: the folder for scores, vectors, tables and the report; what it has already is not
            computed again.
        embeddings: files of vectors to score beside the models; or one of these.
        progress: report the progress on standard error.
        embed: how all models embed; as each records by default.
        **settings: fields of `SuiteSettings`, such as ``only``, ``quick`` and ``ties``.

    Raises:
        UserError: a model, a benchmark or a setting cannot be used.

    Example:
        >>> print(st.evaluate_suite("benchmarks", ["start", "tuned", "bm25"], "results"))
    """
    from sciembed_train.evaluation.suite.suite_settings import SuiteSettings

    models, files = (
        [str(one) for one in ([names] if isinstance(names, str | Path) else names)]
        for names in (model, embeddings)
    )
    request = SuiteSettings(suite, to, models, embeddings=files, **settings)
    from sciembed_train.evaluation.suite.run_suite import run_suite
    from sciembed_train.evaluation.suite.suite_results import SuiteResults

    return SuiteResults.write(run_suite(request, embed, quiet=not progress), Path(to))


def export_encoder(
    source: Pathlike,
    to: Pathlike,
    *,
    layout: Layout = "sentence-transformers",
    adapter: str | None = None,
    base: Pathlike | None = None,
    pooling: str | None = None,
    overwrite: bool = False,
    onnx: bool = False,
    openvino: bool = False,
) -> Export:
    """Write the encoder of a checkpoint or a run as a folder that other libraries load.

    Args:
        source: a ``.ckpt`` file, or a run's folder (its final, best or last one).
        to: the folder to write.
        layout: ``sentence-transformers``, ``lora``, ``adapterhub`` or ``aspire-full``.
        adapter: of layout ``adapterhub``, the adapter's format or code.
        base: the frozen backbone of adapters or of low-rank updates, if no longer where it was in
            training; of layout ``aspire-full``, the hub name or folder of the base model that its
            file names.
        pooling: the import path of the checkpoint's pooling, if that is a class of yours.
        overwrite: replace an earlier export.
        onnx: write the whole encoder as an ONNX graph, too, for ``backend="onnx"``.
        openvino: write it for OpenVINO with weights of 8 bits, too, for ``backend="openvino"``.

    Returns:
        The folder, the checkpoint, and how far each library's vectors differ from the encoder's.

    Raises:
        UserError: no such checkpoint, the folder may not be replaced, or the encoder has no such
            layout.

    Example:
        >>> st.export_encoder("checkpoints/specter", "my_encoder").differences
        {'AutoModel': 1e-06, 'SentenceTransformer': 1e-06}
    """
    from sciembed_train.export.export_checkpoint import ExportSettings, export_checkpoint

    settings = ExportSettings(
        source,
        to,
        layout=layout,
        adapter=adapter,
        base=base,
        pooling=pooling,
        overwrite=overwrite,
        onnx=onnx,
        openvino=openvino,
    )
    return export_checkpoint(settings)


def push(
    folder: Pathlike,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    progress: bool = False,
) -> Pushed:
    """Upload an exported encoder to the Hugging Face hub, in one commit.

    Args:
        folder: an exported encoder, or a run's folder, whose export is pushed.
        repo: the repository, such as ``my_name/my_encoder``; it is made where there is none.
        private: make a new repository a private one.
        revision: the branch that is written, instead of main; it is made where there is none.
        progress: show how much is uploaded on standard error.

    Returns:
        The repository, and the commit.

    Raises:
        UserError: the folder is no export with a card, there is no token, or the hub refuses it.
        RunError: the hub cannot be reached, or fails.

    Example:
        >>> st.push("my_encoder", "my_name/my_encoder", private=True).files
        12
    """
    from sciembed_train.export.push import PushSettings, push_folder

    return push_folder(PushSettings(folder, repo, private, revision), quiet=not progress)


def merge(
    models: Iterable[Pathlike],
    to: Pathlike,
    weights: Iterable[float] | None = None,
    *,
    pooling: Literal["cls", "mean"] | None = None,
    similarity: Literal["euclidean", "cosine"] | None = None,
    overwrite: bool = False,
) -> Merge:
    """Write an encoder whose weights are a weighted mean of those of others.

    Args:
        models: folders or hub names of two encoders or more of one architecture, runs among them;
            what is no weight, such as the longest text, is the first one's.
        to: the folder to write.
        weights: of each model, from 0 to 1, 1 in all; equal ones by default.
        pooling: of folders that record none; by default what another of them records.
        similarity: the same for what vectors are compared by.
        overwrite: replace an earlier export.

    Returns:
        The folder, the weights, and how far each library's vectors differ from the encoder's.

    Raises:
        UserError: the models differ in more than their weights, or the folder may not be replaced.

    Example:
        >>> st.merge(["my_start", "checkpoints/own_citations"], "merged", [0.3, 0.7]).weights
        {'my_start': 0.3, 'own_citations': 0.7}
    """
    from sciembed_train.export.merge import merge_models
    from sciembed_train.export.merge_settings import MergeSettings

    shares = None if weights is None else list(weights)
    names = [str(model) for model in models]
    return merge_models(MergeSettings(names, to, shares, pooling, similarity, overwrite))


def mine(
    corpus: Pathlike,
    model: Pathlike | None = None,
    *,
    vectors: Pathlike | None = None,
    name: str = "",
    count: int = 20,
    margin: float = 0.95,
    ranks: str = "10:200",
    positive: Literal["mean", "lowest"] = "mean",
    two_hop_first: bool = False,
    queries_at_once: int = 2048,
    restart: bool = False,
    mask: RelatedMask | Mapping[str, Any] | None = None,
    progress: bool = False,
    **settings: Any,
) -> Mined:
    """Mine hard negatives of a corpus's training papers; a mining that was killed continues.

    Args:
        corpus: a folder made by `prepare`, with citations or co-cited papers.
        model: the encoder that ranks: a model folder, a run folder or a hub name.
        vectors: in place of a model, vectors as `embed` writes them: an ``.npy`` file with the ids
            in ``.ids.txt``, or a folder of such files.
        name: of the negatives in the corpus; that of the model or the vectors by default.
        count: negatives of a query, at most.
        margin: a negative's score is at most this share of the positives' score.
        ranks: which of the nearest unrelated papers may be negatives: ``10:200`` passes over the
            nearest 10 and looks no further than the 200th.
        positive: score of a query's positives: their ``mean``, or that of the ``lowest`` one.
        two_hop_first: of those that may be negatives, take papers first that are cited by a paper
            which the query cites.
        queries_at_once: queries ranked in one block.
        restart: discard what an unfinished run with other settings left.
        mask: which relations make a paper no negative; a `RelatedMask` or some of its fields.
        progress: report each stage on standard error.
        **settings: fields of `EmbedSettings`, such as ``device`` and ``precision``.

    Returns:
        The folder of the negatives, and a summary that prints as a table.

    Raises:
        UserError: the corpus, the model or the vectors cannot be used, or a setting is out of its
            range.

    Example:
        >>> mined = st.mine("corpus", "my_encoder")
        >>> st.fit("own_citations", {
        ...     "data.corpus": "corpus",
        ...     "data.sampling.hard_negatives": 2,
        ...     "data.sampling.mined_by": mined.name,
        ... })
    """
    from sciembed_train.hard_negatives.mine_corpus import mine_corpus
    from sciembed_train.hard_negatives.mine_settings import MineSettings
    from sciembed_train.inference.options import EmbedSettings
    from sciembed_train.sampling.related_mask import RelatedMask

    request = MineSettings(
        corpus,
        model,
        vectors,
        name=name,
        count=count,
        margin=margin,
        ranks=ranks,
        positive=positive,
        two_hop_first=two_hop_first,
        queries_at_once=queries_at_once,
        restart=restart,
    )
    chosen = mask if isinstance(mask, RelatedMask) else RelatedMask(**(mask or {}))
    return mine_corpus(request, chosen, EmbedSettings(**settings), quiet=not progress)
