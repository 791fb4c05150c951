import os
import subprocess
import sys

import pytest

from sciembed_train.errors import UserError
from sciembed_train.export.push import PushSettings, check_card, push_folder
from tests.helpers.exports import contents
from tests.helpers.hub_server import TOKEN, hub_server


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """What is looked at of an export, and files at other depths; `test_graphs` checks a real one's
    card."""
    folder = tmp_path_factory.mktemp("push") / "my_encoder"
    (folder / "1_Pooling").mkdir(parents=True)
    for name in ("sciembed.json", "1_Pooling/config.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    card = "---\nlibrary_name: sentence-transformers\ntags:\n- sciembed_train\n---\n\n# A title\n"
    (folder / "README.md").write_text(card)
    return folder


def push(url, home, *words, token=TOKEN):
    """What the command says in a process of its own: the library reads its settings once."""
    variables = {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home)}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-m", "sciembed_train.cli", "push", *map(str, words)],
        env={**kept, **variables, **({"HF_TOKEN": token} if token else {})},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_folder_is_one_commit_with_every_file_of_it(exported, tmp_path):
    (exported / ".git").mkdir(exist_ok=True)
    (exported / ".git" / "config").write_text("of this machine")
    with hub_server() as hub:
        done = push(hub.url, tmp_path, exported, "me/encoder", "--private", "--revision", "two")
    assert done.returncode == 0, done.stderr
    (commit,) = hub.commits
    wanted = {k: v for k, v in contents(exported).items() if not k.startswith(".git")}
    assert commit["files"] == wanted
    assert (commit["branch"], hub.branches) == ("two", ["two"])
    (repo,) = hub.repos
    assert repo["name"] == "encoder"
    assert repo.get("private") or repo.get("visibility") == "private"  # huggingface_hub 0 and 1
    # The card was shown to the hub before anything was uploaded.
    assert hub.paths.index("/api/validate-yaml") < min(
        number for number, path in enumerate(hub.paths) if "/preupload/" in path
    )
    assert f"my_encoder -> me/encoder: {len(wanted)} files in commit 0f0f" in done.stdout
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("hub", "code", "said"),
    [
        ({"refuses": 401}, 2, "Invalid username or password"),
        ({"card_error": "tags must be texts"}, 2, "tags must be texts"),
        ({"refuses": 500}, 1, "does not take me/encoder"),
    ],
)
def test_what_the_hub_refuses_is_one_message(exported, tmp_path, hub, code, said):
    with hub_server(**hub) as server:
        done = push(server.url, tmp_path, exported, "me/encoder", "--quiet")
    assert (done.returncode, server.commits) == (code, [])
    assert done.stderr.startswith("./train push: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert TOKEN not in done.stderr


def test_a_hub_that_is_not_there_is_one_message(exported, tmp_path):
    done = push("http://127.0.0.1:9", tmp_path, exported, "me/encoder", "--quiet")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "http://127.0.0.1:9 cannot be reached" in done.stderr


def test_without_a_token_nothing_is_asked_of_the_hub(exported, tmp_path):
    with hub_server() as hub:
        done = push(hub.url, tmp_path, exported, "me/encoder", token=None)
    assert (done.returncode, hub.paths) == (2, [])
    assert done.stderr.startswith("./train push: There is no token of the hub")
    assert done.stderr.count("\n") == 1
    assert "HF_TOKEN" in done.stderr


def test_offline_nothing_is_sent(exported, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        push_folder(PushSettings(exported, "me/encoder"))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (None, "is no export with a model card"),
        ("# A title alone\n", "begins with no metadata block"),
        ("---\ntags: [a\n---\n", "cannot be read"),
        ("---\ntags: [a]\n---\n", "begins with no metadata block"),
    ],
)
def test_a_card_that_the_hub_could_not_read_is_refused(tmp_path, card, message):
    (tmp_path / "sciembed.json").write_text("{}")
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    with pytest.raises(UserError, match=message):
        check_card(tmp_path)


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        push_folder(PushSettings(tmp_path / "nowhere", "me/encoder"))


@pytest.mark.parametrize("name", ["", "a/b/c", "a b", "/a", "a/", "a\nb", "z" * 97, "../a"])
def test_names_that_the_hub_does_not_take_are_refused(name):
    with pytest.raises(UserError, match=r"^repo is"):
        PushSettings("m", name)
    if name != "a/b/c":  # a branch may have several parts
        with pytest.raises(UserError, match=r"^revision is"):
            PushSettings("m", "me/encoder", revision=name)
