"""Pushing to and loading from the Hub, by its own client, to a stand-in on this machine."""

import pytest
import torch

from prompting import load_prompts, push_to_hub, save_prompts
from prompting.hub import CARD, CONFIG, WEIGHTS, find_prompts
from tests.prompting.hub_server import serve
from tests.prompting.learners import low_rank, moved

constants = pytest.importorskip("huggingface_hub.constants", reason="pip install huggingface_hub")
IMAGES = torch.randn(3, 3, 32, 32)


@pytest.fixture
def server(monkeypatch, tmp_path):
    with serve() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_right")
        yield server


@pytest.fixture
def saved(tiny_backbone, tmp_path):
    return save_prompts(moved(low_rank(tiny_backbone)), tmp_path / "prompts")


def test_what_is_pushed_is_what_a_colleague_loads(server, saved, tiny_backbone):
    (saved / "notes.txt").write_text("mine alone")
    address = push_to_hub(saved, "me/prompts", private=True)
    assert address.startswith(f"{server.address}/me/prompts/")
    assert server.private is True
    files = server.repos["me/prompts"]
    assert set(files) == {CONFIG, WEIGHTS, CARD}  # no config.json of the client's, and no CLIP
    assert all(content == (saved / name).read_bytes() for name, content in files.items())
    found, _ = load_prompts("me/prompts", backbone=tiny_backbone)
    expected, _ = load_prompts(saved, backbone=tiny_backbone)
    assert torch.equal(found(IMAGES), expected(IMAGES))


def test_other_files_of_a_repository_are_not_downloaded(server, saved):
    push_to_hub(saved, "me/prompts")
    server.repos["me/prompts"]["huge.bin"] = b"0"
    assert sorted(p.name for p in find_prompts("me/prompts").iterdir()) == [CONFIG, WEIGHTS]


def test_a_damaged_folder_is_not_pushed(server, saved):
    (saved / WEIGHTS).write_bytes(b"0")
    with pytest.raises(ValueError, match="is not the file that was saved with its"):
        push_to_hub(saved, "me/prompts")
    assert server.repos == {}


def test_what_the_hub_refuses_is_one_sentence(server, saved, monkeypatch):
    with pytest.raises(
        ValueError, match="There is no folder me/nothing, and the Hub did not"
    ) as error:
        load_prompts("me/nothing")
    assert "\n" not in str(error.value)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ValueError, match="was not put on the Hub as me/prompts: .*401") as error:
        push_to_hub(saved, "me/prompts")
    assert "\n" not in str(error.value)


def test_without_a_network(server, saved, monkeypatch):
    server.shutdown()
    server.server_close()
    with pytest.raises(ValueError, match="was not put on the Hub as me/prompts: ") as error:
        push_to_hub(saved, "me/prompts")
    assert "\n" not in str(error.value)
