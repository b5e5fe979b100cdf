"""Tiny CLIPs with random weights, of OpenAI's architecture, that cost milliseconds."""

import json
import os
import uuid
from functools import cache
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the tests are a CPU's, wherever they run

import pytest
import torch
from clip.model import CLIP
from PIL import Image

from experiment import cli
from prompting import Backbone, load_backbone
from tests import open_clip_worlds

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny matrices; threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    """Every test draws the same numbers, alone or among others."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user():
    """Neither read nor written, nor by what is made once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMLOP_CACHE", "off")
        yield


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    """Every test begins with an empty cache: it computes what it tests."""
    folder = tmp_path_factory.getbasetemp() / "cache" / uuid.uuid4().hex
    monkeypatch.setenv("MMLOP_CACHE", str(folder))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the project; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED_DATA


def build_clip(layers: int = 4, seed: int = 0) -> CLIP:
    """Text width 128 (2 heads), image width 192 (3 heads), joint width 32, images of 32 x 32."""
    torch.manual_seed(seed)
    model = CLIP(
        embed_dim=32,
        image_resolution=32,
        vision_layers=layers,
        vision_width=192,
        vision_patch_size=8,
        context_length=77,
        vocab_size=49408,
        transformer_width=128,
        transformer_heads=2,
        transformer_layers=layers,
    )
    with torch.no_grad():  # biases start at zero and layer norms at one: make them count
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_clip() -> CLIP:
    return build_clip()


@pytest.fixture
def tiny_backbone(tiny_clip) -> Backbone:
    return Backbone(tiny_clip, "tiny", "0" * 64, "fp32", torch.device("cpu"))


def write_dataset(root: Path, classes: int, images: int = 3) -> None:
    """A miniature Caltech101: `images` of each class in each split, CoOp's layout and split."""
    folder = root / "caltech-101" / "101_ObjectCategories"
    split = {"train": [], "val": [], "test": []}
    names = ["face", "leopard", "motorbike", "accordion", "airplane", "anchor", "ant", "barrel"]
    for label, name in enumerate(names[:classes]):
        (folder / name).mkdir(parents=True)
        for part in split:
            for index in range(images):
                path = f"{name}/{part}_{index}.jpg"
                colour = (label * 30, index * 60, 100)
                Image.new("RGB", (40, 36), colour).save(folder / path)
                split[part].append([path, label, name])
    (root / "caltech-101" / "split_zhou_Caltech101.json").write_text(json.dumps(split))


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory) -> str:
    """A state dict on disk, of a tiny CLIP deep enough for the default depth of 9."""
    path = tmp_path_factory.mktemp("backbone") / "tiny.pth"
    torch.save(build_clip(layers=9).state_dict(), path)
    return str(path)


@pytest.fixture(scope="session")
def open_clip_name(tmp_path_factory):
    """A function from a kind of `tests/open_clip_worlds.py` to a backbone's name; skips."""
    folder = tmp_path_factory.mktemp("open_clip")
    return lambda kind: open_clip_worlds.write_weights(folder, kind)


@pytest.fixture(scope="session")
def open_clip_backbone(open_clip_name):
    """The same to the backbone, loaded once."""
    return cache(lambda kind: load_backbone(open_clip_name(kind)))


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory) -> Path:
    """A data folder with a Caltech101 of four classes."""
    root = tmp_path_factory.mktemp("data")
    write_dataset(root, classes=4)
    return root


@pytest.fixture
def run(tiny_file, tiny_root, tmp_path):
    """Call train.py on the miniature data with the tiny CLIP; returns results.json, if any."""

    def call(trainer: str, name: str, *arguments: str, **flags: str) -> dict | None:
        fixed = {
            "root": str(tiny_root),
            "seed": "1",
            "trainer": trainer,
            "output-dir": str(tmp_path / name),
            "dataset-config-file": str(CONFIGS / "datasets" / "caltech101.yaml"),
            "backbone": tiny_file,
        }
        given = {key.replace("_", "-"): value for key, value in flags.items()}
        flat = [part for key, value in {**fixed, **given}.items() for part in (f"--{key}", value)]
        pairs = ("DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "2", "DATASET.NUM_SHOTS", "2")
        options = [a for a in arguments if a.startswith("--")]
        cli.main([*flat, *options, *pairs, *[a for a in arguments if not a.startswith("--")]])
        results = tmp_path / name / "results.json"
        return json.loads(results.read_text()) if results.exists() else None

    return call
