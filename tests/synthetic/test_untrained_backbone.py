from sciembed_train.synthetic import train_tokenizer, write_bert
from tests.helpers.synthetic_papers import text_of


def test_tokenizer_and_bert_are_written_the_same_twice(tmp_path, papers):
    from transformers import AutoModel, AutoTokenizer

    texts = [text_of(p) for p in papers]
    for name in "ab":
        write_bert(tmp_path / name, train_tokenizer(texts, 900), layers=1, width=32, heads=2)
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    ids = tokenizer(texts[0].split(".")[0])["input_ids"]
    assert ids[0] == tokenizer.cls_token_id
    assert ids[-1] == tokenizer.sep_token_id
    assert tokenizer.unk_token_id not in ids
    assert AutoModel.from_pretrained(tmp_path / "a").config.vocab_size == len(tokenizer)
