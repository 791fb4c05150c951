"""The export of a multi-vector model: token states for a plain model, and no vector of a text."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.export.layouts import sentences_layout
from sciembed_train.export.library_vectors import sentence_transformers_refuses
from sciembed_train.export.sentence_transformers_files import REFUSED
from sciembed_train.export.verification import ExportError
from sciembed_train.inference.matching import Matcher
from sciembed_train.text.input_format import InputFormat

TRANSPORT = {"temperature": 5000.0, "blur": 0.05, "scaling": 0.9}
OT = {"method": "sentencecocite", "similarity": "transport", "transport": TRANSPORT}
TS = {"method": "sentencecocite", "similarity": "best_match", "seed": 7}
PAPERS = [
    ("word1 word2", ["word3 word4.", "word5 a b c.", "word6."]),
    ("word7", []),
    ("", ["word8 word9."]),
    ("word10", ["word11 " * 30, "word12 " * 30, "word13."]),
]


def several(folder, **changes):
    values = {"pooling": "sentences", "max_length": 64, "dropout": 0.2, **changes}
    encoder = Encoder(EncoderSettings(str(folder), **values))
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():  # the layers of a new BERT change next to nothing
        for parameter in encoder.backbone.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
    return encoder


@pytest.fixture(scope="module")
def exported(tiny_bert, tmp_path_factory):
    encoder = several(tiny_bert)
    folder = tmp_path_factory.mktemp("several") / "m"
    return encoder, folder, export_encoder(encoder, folder, {**OT, "base_model": str(tiny_bert)})


def apart(found, wanted):
    assert [rows.shape for rows in found] == [rows.shape for rows in wanted]
    return max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True))


def test_a_plain_model_gives_the_states_that_sentence_vectors_are_means_of(exported):
    from transformers import AutoModel, AutoTokenizer

    encoder, folder, differences = exported
    assert list(differences) == ["AutoModel"]
    assert differences["AutoModel"] < 1e-5
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    assert tokenizer.model_max_length == 64
    # By hand: the pieces of title, separator and sentences one after another.
    title, sentences = PAPERS[0]
    parts = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in (title, *sentences)]
    ids = [tokenizer.cls_token_id, *parts[0], tokenizer.sep_token_id]
    places = []
    for part in parts[1:]:
        places.append((len(ids), len(ids) + len(part)))
        ids += part
    ids.append(tokenizer.sep_token_id)
    with torch.inference_mode():
        states = model.eval()(torch.tensor([ids])).last_hidden_state[0]
    wanted = torch.stack([states[a:b].mean(0) for a, b in places])
    assert apart(encoder.encode_sentences(PAPERS[:1]), [wanted]) < 1e-5
    whole = states.mean(0)
    assert (wanted - whole).abs().max() > 0.1  # what must not be given


@pytest.mark.parametrize("trust", [False, True])
def test_sentence_transformers_refuses_it_in_words_that_tell_why(trust, exported):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    with pytest.raises(ValueError, match="a vector for each sentence of a paper, see its README"):
        sentence_transformers.SentenceTransformer(
            str(exported[1]), device="cpu", local_files_only=True, trust_remote_code=trust
        )


def test_without_the_modules_it_would_have_made_a_mean_of_all_tokens(exported, tmp_path):
    """If this fails, sentence-transformers has changed, and the refusal may not be needed."""
    import shutil

    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder, folder, _ = exported
    bare = shutil.copytree(folder, tmp_path / "m")
    (bare / "modules.json").unlink()
    model = sentence_transformers.SentenceTransformer(
        str(bare), device="cpu", local_files_only=True
    )
    assert model.encode(["word1"]).shape == (1, encoder.dim)
    assert sentence_transformers_refuses(bare, REFUSED) is False
    assert sentence_transformers_refuses(folder, REFUSED) is True


def test_it_loads_here_with_its_record_and_nothing_of_this_machine(exported, tiny_bert):
    encoder, folder, _ = exported
    again = Encoder.load(folder)
    assert again.settings.pooling == "sentences"
    assert again.settings.input_format == encoder.settings.input_format
    assert apart(again.encode_sentences(PAPERS), encoder.encode_sentences(PAPERS)) < 1e-5
    matcher = Matcher.load(folder)
    assert matcher.settings is not None
    assert matcher.settings.as_dict() == TRANSPORT
    record = json.loads((folder / "sciembed.json").read_text())
    assert record.items() >= {**OT, "pooling": "sentences", "max_length": 64}.items()
    assert encoder.training
    assert encoder.backbone.config.hidden_dropout_prob == 0.2
    for path in folder.rglob("*"):
        if path.is_file():
            assert str(tiny_bert.parent).encode() not in path.read_bytes(), path
            assert str(folder.parent).encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("backbone", "input_format"),
    [
        ("tiny_roberta", InputFormat()),
        ("tiny_bert", InputFormat("space", "sep", "word1")),
        ("tiny_bert", InputFormat(control_code="word1")),
    ],
)
def test_other_backbones_and_forms_are_exported_and_their_card_runs(
    backbone, input_format, request, tmp_path
):
    encoder = several(request.getfixturevalue(backbone), input_format=input_format)
    differences = export_encoder(encoder, tmp_path / "m", TS)
    assert differences["AutoModel"] < 1e-5
    check_card(encoder, tmp_path / "m", tmp_path)


def check_card(encoder, folder, tmp_path):
    card = (folder / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 2
    ours, plain = {}, {}
    ready = blocks[0].replace("PATH_OR_NAME_OF_THIS_MODEL", str(folder))
    exec(ready.replace("plan.svg", str(tmp_path / "plan.svg")), ours)
    exec(blocks[1].replace("PATH_OR_NAME_OF_THIS_MODEL", str(folder)), plain)
    papers = [(p["title"], p["abstract"]) for p in plain["papers"]]
    assert apart(plain["embeddings"], encoder.encode_sentences(papers)) < 1e-5
    assert plain["nearest"].item() == pytest.approx(ours["match"].distance, abs=1e-4)
    assert (tmp_path / "plan.svg").read_text().startswith("<svg ")
    # And on papers of every kind, not the card's own.
    for paper in PAPERS:
        title, sentences = paper[0], [s.strip() for s in paper[1]]
        found = plain["sentence_vectors"](title, sentences)
        assert apart([found], encoder.encode_sentences([paper])) < 1e-5
    return card, ours


def test_the_card_tells_what_the_model_is_and_its_code_runs(exported, tmp_path):
    import yaml

    encoder, folder, _ = exported
    card, ours = check_card(encoder, folder, tmp_path)
    assert ours["plan"].settings.as_dict() == TRANSPORT
    said = " ".join(card.split())
    assert "**This is a multi-vector model: it has no vector of a whole text.**" in said
    assert "nor a mean over the text" in said
    assert "`sentence-transformers` refuses this folder" in said
    assert "that of temperature 5000" in said
    assert "| transport: temperature | 5000.0 |" in card
    _, head, _ = card.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["library_name"] == "sciembed_train"
    assert "sentence-transformers" not in metadata["tags"]


def test_a_checkpoint_is_exported_imported_and_exported_again_with_its_transport(
    tiny_bert, tmp_path, capsys
):
    encoder = several(tiny_bert)
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    record = {"version": 1, **describe(encoder), **OT, "training": {"base_model": "a/b"}}
    torch.save({"sciembed": record, "state_dict": state}, tmp_path / "last.ckpt")
    given = ["export", str(tmp_path / "last.ckpt"), "--to", str(tmp_path / "run" / "export")]
    assert cli.main(given) == 0
    assert "AutoModel differs by" in capsys.readouterr().out
    assert cli.main([*given, "--overwrite", "--quiet"]) == 0
    source, target = tmp_path / "run" / "export", tmp_path / "again"
    assert cli.main(["import", str(source), "--to", str(target)]) == 0
    said = capsys.readouterr().out
    assert "the mean over the tokens of each sentence in its paper" in said
    assert "optimal transport between sentences (temperature 5000)" in said
    found = json.loads((target / "sciembed.json").read_text())
    assert found["transport"] == TRANSPORT
    again = Encoder.load(target).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in encoder.state_dict().items())


def spoil(folder, what):
    if what == "weights":
        state = load_file(folder / "model.safetensors")
        state["encoder.layer.1.output.LayerNorm.bias"][3] += 1e-2
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    if what == "modules":
        (folder / "modules.json").unlink()
    if what == "pooling":
        path = folder / "1_Pooling" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "pooling_mode": "mean"}))
    if what == "length":
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 512}))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("weights", "AutoModel computes other sentence vectors"),
        ("modules", "SentenceTransformer does not refuse"),
        ("pooling", "SentenceTransformer does not refuse"),
        ("length", "other token ids"),
    ],
)
def test_a_folder_that_gives_something_else_is_noticed_and_removed(
    what, message, tiny_bert, tmp_path, monkeypatch
):
    pytest.importorskip("sentence_transformers")
    write = sentences_layout.write_refusal

    def spoiled(folder, dim):
        write(folder, dim)
        spoil(folder, what)

    monkeypatch.setattr(sentences_layout, "write_refusal", spoiled)
    with pytest.raises(ExportError, match=message):
        export_encoder(several(tiny_bert), tmp_path / "sub" / "m", TS)
    assert list((tmp_path / "sub").iterdir()) == []


def test_a_record_that_does_not_say_how_papers_are_compared_is_a_defect(tiny_bert, tmp_path):
    encoder = several(tiny_bert)
    for card, words in (
        ({}, "similarity is None"),
        ({"similarity": "euclidean"}, "'euclidean'; expected best_match or transport"),
        ({"similarity": "transport"}, "transport is None"),
        ({"similarity": "transport", "transport": {"blur": 0.05}}, "without a temperature"),
        ({**TS, "transport": TRANSPORT}, "'best_match', and transport"),
    ):
        with pytest.raises(ValueError, match=words):
            export_encoder(encoder, tmp_path / "m", card)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sentences", ["joined", "sep"])
def test_a_decoders_sentences_are_exported_whichever_side_it_pads(sentences, tiny_qwen3, tmp_path):
    form = InputFormat(sentences=sentences)
    settings = EncoderSettings(str(tiny_qwen3), "sentences", 200, input_format=form)
    for side in ("left", "right"):
        encoder = Encoder(settings).eval()
        encoder.tokenizer.hf.padding_side = side
        found = export_encoder(encoder, tmp_path / side, TS)
        assert found["AutoModel"] is not None
        assert found["AutoModel"] < 1e-5
    card = (tmp_path / "left" / "README.md").read_text()
    gap = '"\\n"' if sentences == "sep" else '" "'
    assert f"    gap = {gap}\n" in card
