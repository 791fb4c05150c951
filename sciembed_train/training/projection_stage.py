"""The stage after training that learns a projection from the trained encoder's own vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Trainer
from torch.nn.functional import normalize

from sciembed_train import distributed
from sciembed_train.config.verdict_settings import VerdictSettings
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.settings import PROJECTED
from sciembed_train.evaluation.cached_embedding import CachedEmbedding
from sciembed_train.inference.embedding import Text
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.methods.base import Method
from sciembed_train.methods.learned_projection import PaperPairs, learn_map, places_of
from sciembed_train.methods.projection_settings import ProjectionSettings
from sciembed_train.progress import Progress
from sciembed_train.sampling.citation_pairs import CitationPairExamples, CitationPairSampling
from sciembed_train.sampling.related_papers import RelatedPapers, Texts
from sciembed_train.training.configuration import RunConfiguration
from sciembed_train.training.interpolation import StartMixture, why_as_trained
from sciembed_train.training.start_scores import start_settings
from sciembed_train.training.trainer import embedding_precision

# In a run's folder, while it is used.
VECTORS = ".vectors"

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ProjectionStage:
    """Learns a projection, and gives it to an encoder.

    Args:
        settings: of the learning.
        corpus: with citations and papers.
        sampling: what its pairs are of, and which papers are related.
        embed: how the encoder runs.
        folder: where vectors are kept in the meantime, so that none is computed twice.
        seed: of what is drawn.
        quiet: show no progress.
        start: settings of the start encoder; None where the weights stay as they were trained.
        alpha: share of the trained weights where no dev queries choose one.
    """

    settings: ProjectionSettings
    corpus: Corpus
    sampling: CitationPairSampling
    embed: EmbedSettings
    folder: Path
    seed: int = 0
    quiet: bool = True
    start: EncoderSettings | None = None
    alpha: float = 1.0

    def mix(self, encoder: Encoder) -> float:
        """Give a trained encoder the start's weights in part, where no verdict chooses the share.

        Args:
            encoder: it is moved to the host.

        Returns:
            The share of the trained weights.
        """
        if self.start is None:
            return 1.0
        mixture = StartMixture(self.start, encoder)
        if mixture.refused is not None:
            return 1.0
        mixture.give(self.alpha)
        return self.alpha

    def learn(self, encoder: Encoder) -> tuple[dict[str, Any], CachedEmbedding]:
        """Give the encoder a projection, or change the one that it has.

        Args:
            encoder: on the device where it is to run; its low-rank updates are merged. A failure
                leaves it as it is.

        Returns:
            What was done, for the record of the run; and what embeds texts as the encoder does
            but for the projection, and keeps the vectors.
        """
        progress = Progress(self.quiet)
        kept = CachedEmbedding(self.folder, encoder.without_projection())
        most, seed = self.settings.most_papers, self.seed
        papers, pairs = training_pairs(self.corpus, self.sampling, most, seed)
        count, steps = len(papers), self.settings.steps
        with progress.stage("embedding for the projection", count, "papers") as stage:
            texts = paper_texts(self.corpus, papers)
            vectors = torch.from_numpy(kept.texts(texts, count, self.embed, stage.advance))
        own = torch.eye(vectors.shape[1])
        if encoder.projection is not None:
            own = encoder.projection.weight.detach().cpu()
        with progress.stage("learning the projection", steps, "steps") as stage:
            vectors = normalize(vectors @ own.T)
            learned, losses = learn_map(vectors, pairs, self.settings, self.seed, stage.advance)
        encoder.add_projection(encoder.dim)
        assert encoder.projection is not None
        with torch.no_grad():
            encoder.projection.weight.copy_(learned @ own)
        tenth = max(1, len(losses) // 10)
        record = {
            "papers": count,
            "citations": len(pairs.citing),
            "cocitations": len(pairs.cocited),
            "steps": steps,
            "share": self.settings.share,
            "first_loss": round(float(np.mean(losses[:tenth])), 4),
            "last_loss": round(float(np.mean(losses[-tenth:])), 4),
        }
        progress.print(
            f"projection learned from {len(pairs.all):,} pairs of {count:,} papers: loss "
            f"{record['first_loss']:g} to {record['last_loss']:g} in {steps:,} steps; "
            f"{self.settings.share:g} of it in the encoder"
        )
        return record, kept


def plan_projection(
    run: RunConfiguration, method: Method, trainer: Trainer
) -> ProjectionStage | None:
    """The stage of a run; None where it has none, and then a line where one was asked for."""
    settings, corpus = run.recipe.get(ProjectionSettings), run.data.corpus
    if not settings.steps or run.folder is None:
        return None
    quiet = run.run.quiet or distributed.launch_rank() != 0
    similarity = method.similarity_metadata["similarity"]
    nested = any(dim < method.encoder.dim for dim in method.nested.dims)
    seed = run.data.settings.seed
    # A recipe with another sampling says nothing of these pairs: then the defaults hold.
    sampling = CitationPairSampling()
    if isinstance(run.examples, CitationPairExamples):
        sampling = run.examples.sampling
    encoder = method.encoder
    reason = why_no_projection(settings, corpus, sampling, encoder, similarity, nested, seed)
    if reason is not None:
        Progress(quiet).print(f"no projection is learned: {reason}")
        return None
    embed = EmbedSettings(
        device=str(trainer.strategy.root_device), precision=embedding_precision(trainer)
    )
    folder = run.folder / VECTORS
    start, alphas = None, run.recipe.get(VerdictSettings).alphas or []
    given = len(alphas) == 1
    alpha = alphas[0] if given else settings.alpha
    if alpha < 1 and (given or why_as_trained(encoder.settings) is None):
        start, _ = start_settings(encoder.settings, similarity)
    return ProjectionStage(settings, corpus, sampling, embed, folder, seed, quiet, start, alpha)


def why_no_projection(
    settings: ProjectionSettings,
    corpus: Corpus,
    sampling: CitationPairSampling,
    encoder: Encoder,
    similarity: str,
    nested: bool = False,
    seed: int = 0,
) -> str | None:
    """Why no projection is learned though it is asked for; None where it can be.

    Args:
        settings: with at least one step.
        corpus: of the run.
        sampling: as for `training_pairs`.
        encoder: that is trained.
        similarity: by what its vectors are compared.
        nested: whether the first numbers of each are trained as a vector, too.
        seed: of the papers that are drawn of a large collection.
    """
    own = encoder.settings
    if own.pooling not in PROJECTED or own.adapters is not None or own.control_codes:
        kind = "adapters" if own.adapters is not None else "control codes"
        return (
            f"an encoder with {kind} takes none"
            if own.pooling in PROJECTED
            else f"the pooling {own.pooling} takes none"
        )
    if nested:
        return "it would mix the numbers of nested vectors (matryoshka_dims)"
    if similarity != "cosine":
        return f"it is learned by cosine, and the vectors are compared by {similarity}"
    needed = ("citations.npy", "papers.parquet")
    if any(not (corpus.folder / name).is_file() for name in needed):
        return "the corpus holds no citations (prepare it with --citations F)"
    try:
        import pyarrow  # noqa: F401 - a prepared corpus is trained on without it
    except ImportError:
        return "reading the papers' texts needs pyarrow: pip install 'sciembed_train[prepare]'"
    _, pairs = training_pairs(corpus, sampling, settings.most_papers, seed)
    if len(pairs.all) < settings.fewest_pairs:
        return (
            f"{len(pairs.all):,} training pairs of papers are fewer than projection.fewest_pairs "
            f"{settings.fewest_pairs:,}"
        )
    return None


def training_pairs(
    corpus: Corpus, sampling: CitationPairSampling, most_papers: int, seed: int
) -> tuple[Ints, PaperPairs]:
    """The papers of a corpus that count, ascending, and the training pairs of their places.

    All with a text: papers that nobody cites are candidates, too, as they are in a search.

    Args:
        corpus: with citations.
        sampling: what pairs are of, and which papers are related.
        most_papers: of more papers so many are drawn, half of them, or all that there are, with
            the pairs that are drawn first.
        seed: of the draw.
    """
    papers = _readable(corpus)
    citing, cocited = places_of(papers, _pairs(corpus, sampling))
    citing, cocited = papers[citing], papers[cocited]
    if len(papers) > most_papers:
        rng = np.random.default_rng(seed)
        # The papers of pairs in a random order of the pairs: of single papers few pairs are left.
        drawn, first = np.unique(
            rng.permutation(np.concatenate([citing, cocited])).ravel(), return_index=True
        )
        paired = drawn[np.argsort(first)]
        others = rng.permutation(np.setdiff1d(papers, paired))
        kept = paired[: max(most_papers - len(others), most_papers // 2)]
        papers = np.sort(np.concatenate([kept, others[: most_papers - len(kept)]]))
    one, other = places_of(papers, [citing, cocited])
    related = RelatedPapers.of(corpus, sampling.mask, np.asarray(corpus.titles()))

    def excluded(queries: Ints, positives: Ints, candidates: Ints, own: Ints) -> Ints:
        asked, right, others = (
            Texts(papers[places], papers[places]) for places in (queries, positives, candidates)
        )
        return related.excluded(asked, right, others, own)

    return papers, PaperPairs(one, other, excluded)


def paper_texts(corpus: Corpus, papers: Ints) -> list[Text]:
    """Title and abstract of some papers, by their numbers, which are ascending."""
    wanted = iter(papers.tolist())
    following = next(wanted, None)
    texts: list[Text] = []
    for row in corpus.papers():
        if row["paper"] == following:
            texts.append((row["title"], row["abstract"]))
            following = next(wanted, None)
    assert following is None
    return texts


def _readable(corpus: Corpus) -> Ints:
    """The numbers of the papers that have a text and are not excluded, ascending."""
    kept_out = corpus.excluded_papers()
    return np.array(
        [
            row["paper"]
            for row in corpus.papers()
            if not kept_out[row["paper"]] and has_text(row["title"], row["abstract"])
        ],
        np.int64,
    )


def _pairs(corpus: Corpus, sampling: CitationPairSampling) -> tuple[Ints, Ints]:
    """Training citations, and training co-citations that are frequent enough, ``[n, 2]`` each.

    None of a source without a weight.
    """
    citing, cocited = np.empty((0, 2), np.int64), np.empty((0, 2), np.int64)
    if sampling.weights.citations:
        citations = np.asarray(corpus.citations_of_texts(), np.int64)
        splits = np.asarray(corpus.paper_splits())
        of_training = splits[citations[:, 0]] == SPLITS.index("train")
        citing = citations[of_training & (citations[:, 0] != citations[:, 1])]
    if sampling.weights.cocitations and (corpus.folder / "cocitations").is_dir():
        pairs = np.asarray(corpus.cocitations("train"), np.int64)
        pairs = pairs[np.asarray(corpus.cocitation_counts("train")) >= sampling.cocited]
        pairs = np.asarray(corpus.first_of_text(), np.int64)[pairs]
        cocited = pairs[pairs[:, 0] != pairs[:, 1]]
    return citing, cocited
