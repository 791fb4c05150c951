"""The code that published model cards show, in our words, on exports of the same kind of model.

Where a card's code does not run, or gives another vector than the one that was trained, the test
makes the smallest correction and says what it is. docs/how-to/export.md lists them.
"""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.export.custom_model import with_custom_codes
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.inference.matching import Matcher
from sciembed_train.text.input_format import FORMATS, InputFormat
from tests.helpers.adapter_models import WIDE, stir
from tests.helpers.aspire_models import disturbed
from tests.helpers.exports import CARD, DECLUTR
from tests.helpers.masked_models import write_masked_lm

PAPERS = [
    {"title": "word1 word2", "abstract": "word3 word4. word5 a b c."},
    {"title": "word6", "abstract": "word7 " * 700},
    {"title": "word8 a", "abstract": None},
]
SENTENCES = ["word1 word2 (word3, 2000).", "word4 " * 700, "word5"]
PLAIN = {"local_files_only": True, "trust_remote_code": False}


class Exported(NamedTuple):
    """An encoder and the folder of its export."""

    encoder: Encoder
    folder: str


def exported(folder, backbone, card, masked_lm=False, **settings) -> Exported:
    encoder = Encoder(EncoderSettings(str(backbone), **settings), masked_lm=masked_lm)
    disturbed(encoder)
    export_encoder(encoder, folder, card)
    return Exported(encoder.eval(), str(folder))


def assert_close(found, wanted):
    assert found.shape == wanted.shape
    assert (torch.as_tensor(found) - wanted).abs().max() < 1e-5


def cards_texts(tokenizer, papers):
    """Title, separator and abstract, as the cards of SPECTER, SPECTER2 and Aspire join them."""
    return [p["title"] + tokenizer.sep_token + (p["abstract"] or "") for p in papers]


def first_states(tokenizer, model, texts, **options):
    """Last states of the first token, as the same cards take them."""
    batch = tokenizer(
        texts, padding=True, truncation=True, return_tensors="pt", max_length=512, **options
    )
    with torch.inference_mode():
        return model(**batch).last_hidden_state[:, 0, :]


# DeCLUTR (declutr-sci-base): mean of the states, by either library.


@pytest.fixture(scope="module")
def declutr(tmp_path_factory):
    above = tmp_path_factory.mktemp("declutr")
    backbone = write_masked_lm(above / "bert", "bert")
    space = InputFormat(separator="space")
    settings = {"pooling": "mean", "input_format": space, "masked_lm": True}
    return exported(above / "m", backbone, DECLUTR, **settings)


def test_declutr_by_transformers(declutr):
    """Of two forms of the card the older unpacks the output in two; the first entry of it runs."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(declutr.folder, **PLAIN)
    model = AutoModel.from_pretrained(declutr.folder, **PLAIN)
    batch = tokenizer(SENTENCES, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch)[0]
    mask = batch["attention_mask"].unsqueeze(-1)
    found = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
    assert_close(found, declutr.encoder.encode_texts(SENTENCES))


def test_declutr_by_sentence_transformers(declutr):
    """The card names its list `text` and encodes `texts`: one name for both."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(declutr.folder, device="cpu", **PLAIN)
    wanted = declutr.encoder.encode_texts(SENTENCES)
    found = torch.from_numpy(model.encode(SENTENCES))
    assert_close(found, wanted)
    cosine = nn.functional.cosine_similarity(found[0], found[1], dim=0)
    assert torch.allclose(cosine, nn.functional.cosine_similarity(wanted[0], wanted[1], dim=0))


# SPECTER: first state of title, separator, abstract.


def test_specter(tiny_bert, tmp_path):
    """Without an abstract the card has two separators at the end; ours leaves one out."""
    from transformers import AutoModel, AutoTokenizer

    encoder, folder = exported(tmp_path / "m", tiny_bert, CARD, pooling="cls")
    tokenizer = AutoTokenizer.from_pretrained(folder, **PLAIN)
    model = AutoModel.from_pretrained(folder, **PLAIN)
    texts = cards_texts(tokenizer, PAPERS)
    found = first_states(tokenizer, model, texts)
    wanted = encoder.encode_texts([encoder.compose(p["title"], p["abstract"]) for p in PAPERS])
    assert_close(found[:2], wanted[:2])
    assert (found[2] - wanted[2]).abs().max() > 1e-3
    texts[2] = PAPERS[2]["title"]
    assert_close(first_states(tokenizer, model, texts), wanted)


# SPECTER2: a base, and an adapter for each format, by the library adapters.


@pytest.fixture(scope="module")
def specter2(tiny_bert, tmp_path_factory):
    pytest.importorskip("adapters")
    settings = EncoderSettings(str(tiny_bert), adapters=AdapterSettings(config=WIDE))
    encoder = Encoder(settings).eval()
    stir(encoder.backbone, encoder.format_reader)
    folder = tmp_path_factory.mktemp("specter2") / "m"
    export_encoder(encoder, folder, {**CARD, "method": "tasks"})
    return Exported(encoder, str(folder))


@pytest.mark.parametrize("name", FORMATS)
def test_specter2_by_the_library_adapters(specter2, name):
    """A folder goes without ``source="hf"``, with which the card looks on the hub."""
    from adapters import AutoAdapterModel
    from transformers import AutoTokenizer

    base, adapter = f"{specter2.folder}/base", f"{specter2.folder}/adapters/{FORMATS[name]}"
    assert not [*Path(base).rglob("*.py"), *Path(adapter).rglob("*.py")]  # no remote code
    tokenizer = AutoTokenizer.from_pretrained(base, **PLAIN)
    model = AutoAdapterModel.from_pretrained(base, **PLAIN)
    model.load_adapter(adapter, load_as=name, set_active=True)
    texts = [*cards_texts(tokenizer, PAPERS[:2]), "word9 a query"]
    found = first_states(tokenizer, model, texts, return_token_type_ids=False)
    assert_close(found, specter2.encoder.encode_texts(texts, format=name))
    base_alone = Encoder.load(base).encode_texts(texts)
    assert (found - base_alone).abs().max() > 0.1


def test_specter2_by_the_older_readme(specter2):
    """It loads the adapter into an ``AutoModel``; today's needs ``AutoAdapterModel``, as above."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(f"{specter2.folder}/base", **PLAIN)
    adapter = f"{specter2.folder}/adapters/[PRX]"
    with pytest.raises(TypeError, match="load_as"):
        model.load_adapter(adapter, load_as="proximity", set_active=True)


# Aspire's bi-encoder: its card's plain model has no mix of layers.


@pytest.mark.slow
def test_aspires_bi_encoder(tiny_bert, tmp_path):
    """``AutoModel`` with the folder ``hf/`` and its code, or ``st/``; as it stands it is refused.

    What its page shows for the full model, `tests/export/layouts/test_aspire_layout.py` runs.
    """
    from transformers import AutoModel, AutoTokenizer

    sep = InputFormat(sentences="sep")
    card = {**CARD, "method": "cocite"}
    settings = {"pooling": "mix", "input_format": sep}
    encoder, folder = exported(tmp_path / "m", tiny_bert, card, **settings)
    with pytest.raises((OSError, ValueError)):
        AutoModel.from_pretrained(folder, **PLAIN)
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert, **PLAIN)
    texts = cards_texts(tokenizer, PAPERS[:2])
    wanted = encoder.encode_texts([encoder.compose(p["title"], p["abstract"]) for p in PAPERS[:2]])
    ((ids, vectors),) = with_custom_codes([tmp_path / "m" / "hf"], texts, "cls")
    assert ids == [tokenizer.encode(text, truncation=True, max_length=512) for text in texts]
    assert_close(vectors, wanted)
    # The card's lines on the backbone alone run, and give the last layer's states.
    backbone = AutoModel.from_pretrained(tmp_path / "m" / "st" / "0_Transformer", **PLAIN)
    assert (first_states(tokenizer, backbone, texts) - wanted).abs().max() > 0.1
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(f"{folder}/st", device="cpu", **PLAIN)
    assert_close(torch.from_numpy(model.encode(texts)), wanted)


# Aspire's sentence encoder: first state of a sentence, by either library.


def test_aspires_sentence_encoder(tiny_bert, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    card = {**CARD, "method": "cocite", "texts": "sentences"}
    encoder, folder = exported(tmp_path / "m", tiny_bert, card, pooling="cls")
    wanted = encoder.encode_texts(SENTENCES)
    tokenizer = AutoTokenizer.from_pretrained(folder, **PLAIN)
    model = AutoModel.from_pretrained(folder, **PLAIN)
    assert_close(first_states(tokenizer, model, SENTENCES), wanted)
    sentence_transformers = pytest.importorskip("sentence_transformers")
    # The modules built by hand, from the folder as a plain model.
    modules = sentence_transformers.models
    transformer = modules.Transformer(folder, max_seq_length=512)
    pooling = modules.Pooling(encoder.dim, pooling_mode="cls")
    by_hand = sentence_transformers.SentenceTransformer(
        modules=[transformer, pooling], device="cpu"
    )
    assert_close(torch.from_numpy(by_hand.encode(SENTENCES)), wanted)


# tsAspire and otAspire: means over each sentence's tokens, compared one by one or by transport.

TRANSPORT = {"temperature": 5000.0, "blur": 0.05, "scaling": 0.9}
ABSTRACTS = [
    ("word1 word2", ["word3 word4.", "word5 a b c.", "word6."]),
    ("word7 a", ["word8 word9.", "word10 b."]),
    ("word11", ["word12 " * 400, "word13 " * 400, "word14."]),  # more than is read
]


def cards_sentence_vectors(tokenizer, model, papers, most=500):
    """Title and separator, then the sentences end to end; the mean of each sentence's states.

    Corrected: the width is the model's, where the card's is 768.
    """
    vectors = []
    for title, sentences in papers:
        ids, places = [], []
        for text in (f"{title} [SEP] ", *sentences):
            tokens = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
            kept = tokens[: most - len(ids)]
            if not kept:
                break
            places.append(slice(len(ids) + 1, len(ids) + 1 + len(kept)))
            ids += kept
            if len(kept) < len(tokens):
                break
        row = torch.tensor([tokenizer.build_inputs_with_special_tokens(ids)])
        with torch.inference_mode():
            states = model(
                row, token_type_ids=torch.zeros_like(row), attention_mask=torch.ones_like(row)
            ).last_hidden_state[0]
        vectors.append(torch.stack([states[place].mean(0) for place in places[1:]]))
    return vectors


@pytest.fixture(scope="module", params=["best_match", "transport"])
def multi_vector(request, tiny_bert, tmp_path_factory):
    card = {**CARD, "method": "sentencecocite", "similarity": request.param}
    if request.param == "transport":
        card["transport"] = TRANSPORT
    folder = tmp_path_factory.mktemp("several") / "m"
    return exported(folder, tiny_bert, card, pooling="sentences", max_length=502)


def cards_vectors(model_folder):
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder, **PLAIN)
    model = AutoModel.from_pretrained(model_folder, **PLAIN)
    return cards_sentence_vectors(tokenizer, model, ABSTRACTS)


def test_aspires_multi_vector_models(multi_vector):
    found = cards_vectors(multi_vector.folder)
    assert [len(rows) for rows in found] == [3, 2, 2]
    for rows, wanted in zip(found, multi_vector.encoder.encode_sentences(ABSTRACTS), strict=True):
        assert_close(rows, wanted)
    matcher = Matcher.load(multi_vector.folder)
    a, b = matcher.encode([{"title": t, "abstract": s} for t, s in ABSTRACTS[:2]])
    assert float(torch.cdist(found[0], found[1]).min()) == pytest.approx(
        matcher.best_match(a, b).distance, rel=1e-4
    )


def cards_transport(q, p, temperature):
    """The cost by geomloss's potentials, as otAspire's notebook computes it."""
    geomloss = pytest.importorskip("geomloss")
    distances = torch.cdist(q, p)
    weights = [torch.softmax(-distances.amin(axis) / temperature, 0) for axis in (1, 0)]
    solver = geomloss.SamplesLoss(
        "sinkhorn", p=1, blur=0.05, scaling=0.9, debias=False, potentials=True
    )
    f, g = solver(weights[0][None], q[None], weights[1][None], p[None])
    plan = weights[0][:, None] * weights[1] * torch.exp((f[0][:, None] + g[0] - distances) / 0.05)
    return float((plan * distances).sum())


def test_otaspires_distance_with_the_temperature_of_its_training(tiny_bert, tmp_path):
    """The notebook hands the distance no settings, so that it takes 1 for the trained 5,000."""
    card = {**CARD, "method": "sentencecocite", "similarity": "transport", "transport": TRANSPORT}
    settings = {"pooling": "sentences", "max_length": 502}
    _, folder = exported(tmp_path / "m", tiny_bert, card, **settings)
    q, p, _ = cards_vectors(folder)
    matcher = Matcher.load(folder)
    assert matcher.settings is not None
    a, b = matcher.encode([{"title": t, "abstract": s} for t, s in ABSTRACTS[:2]])
    cost = matcher.transport(a, b).cost
    trained = cards_transport(q, p, matcher.settings.temperature)
    assert trained == pytest.approx(cost, rel=1e-3)
    assert cards_transport(q, p, 1.0) == pytest.approx(
        matcher.transport(a, b, temperature=1.0).cost, rel=1e-3
    )
    assert abs(cards_transport(q, p, 1.0) - cost) > 10 * abs(trained - cost)
