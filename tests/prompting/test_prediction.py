"""Which files are meant, and what the model says of each."""

import re
from pathlib import Path

import clip
import numpy as np
import pytest
import torch
from PIL import Image

from prompting import Context, PromptedCLIP, image_files, predict, zero_shot
from prompting.prediction import read_classes
from tests.prompting.learners import MODELS, NAMES, low_rank, moved


def draw(path, seed=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Files in folders, the current folder above them."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("b.png", "a.jpg", "deep/c.PNG", ".hidden/d.png", ".e.png")):
        draw(tmp_path / "photos" / name, number)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    draw(tmp_path / ".cache" / "thumbnail.png")
    draw(tmp_path / "._a.jpg")
    (tmp_path / "list.txt").write_text("photos/b.png\n\nphotos/deep/c.PNG\n")
    return tmp_path / "photos"


SOURCES = {
    "a file": (["photos/b.png"], ["photos/b.png"]),
    "a folder": (["photos"], ["photos/a.jpg", "photos/b.png", "photos/deep/c.PNG"]),
    "the current folder": (["."], ["photos/a.jpg", "photos/b.png", "photos/deep/c.PNG"]),
    "hidden, from its own folder": (["photos/.hidden"], ["photos/.hidden/d.png"]),
    "a pattern": (["photos/*"], ["photos/a.jpg", "photos/b.png", "photos/deep/c.PNG"]),
    "a pattern of files": (["photos/?.*"], ["photos/a.jpg", "photos/b.png"]),
    "a pattern at any depth": (["**/*.PNG"], ["photos/deep/c.PNG"]),
    "a list": (["list.txt"], ["photos/b.png", "photos/deep/c.PNG"]),
    "each once": (["photos/b.png", "photos/?.*"], ["photos/b.png", "photos/a.jpg"]),
    "hidden, by name": (["photos/.e.png"], ["photos/.e.png"]),
    "any name, given": (["photos/notes.txt"], ["no image"]),  # a list of one path
}  # fmt: skip


@pytest.mark.parametrize("case", SOURCES)
def test_sources(photos, case):
    sources, expected = SOURCES[case]
    assert [str(path) for path in image_files(sources)] == expected


def test_a_file_whose_name_is_a_pattern(photos):
    path = draw(photos / "[1]*.png")
    assert image_files([path]) == [path]


@pytest.mark.parametrize("source", ["nothing", "photos/*.gif", "photos/f.png"])
def test_a_source_that_is_not_there(photos, source):
    message = re.escape(f"There is no file, folder or match for {source}.")
    with pytest.raises(FileNotFoundError, match=message):
        image_files(["photos", source])


def test_no_image_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"There is no image in {tmp_path}: .jpg, "):
        image_files([tmp_path])
    with pytest.raises(FileNotFoundError, match="There is no image in no source"):
        image_files([])


@pytest.mark.parametrize("name", ["low rank", "conditional"])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_predictions_are_the_model_s(tiny_backbone, photos, name, batch_size):
    """In order, with the probabilities of the images one by one."""
    model = moved(MODELS[name](tiny_backbone))
    files = image_files(["photos"])
    found = list(predict(model, files, topk=2, batch_size=batch_size))
    assert [prediction.path for prediction in found] == files
    for prediction in found:
        image = tiny_backbone.preprocess(Image.open(prediction.path))
        probs = model(image[None]).softmax(dim=1)[0]
        order = probs.argsort(descending=True)[:2].tolist()
        assert prediction.labels == tuple(NAMES[i] for i in order)
        torch.testing.assert_close(torch.tensor(prediction.probs), probs[order], atol=1e-5, rtol=0)
        assert not prediction.error
    assert model._fixed_text is None  # as it was


def test_of_fewer_classes_than_asked_for_there_are_all(tiny_backbone, photos):
    (found,) = predict(low_rank(tiny_backbone), ["photos/a.jpg"], topk=9)
    assert sorted(found.labels) == sorted(NAMES) and sum(found.probs) == pytest.approx(1)


def test_broken_files_cost_only_their_own_prediction(tiny_backbone, photos):
    whole = (photos / "b.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[:300])
    (photos / "text.jpg").write_text("no image")
    (photos / "empty.jpg").touch()
    (photos / "header.png").write_bytes(whole[:16] + b"\xff" * 60)
    files = [*image_files(["photos"]), photos / "gone.png", photos]
    for batch_size in (1, 3, 64):
        found = list(predict(low_rank(tiny_backbone), files, batch_size=batch_size))
        assert [prediction.path for prediction in found] == files
        errors = {p.path.name: p.error for p in found if p.error}
        assert set(errors) == {"cut.png", "text.jpg", "empty.jpg", "header.png", "gone.png",
                               "photos"}  # fmt: skip
        assert "No such file" in errors["gone.png"] and "cannot identify" in errors["text.jpg"]
        assert all("\n" not in error for error in errors.values())
        assert all(bool(p.labels) != bool(p.error) for p in found)


def test_memory_that_is_used_up_is_no_broken_file(tiny_backbone, photos, monkeypatch):
    def used_up(self, image):
        raise MemoryError("no more")

    monkeypatch.setattr(type(tiny_backbone), "preprocess", used_up)
    with pytest.raises(MemoryError, match="no more"):
        list(predict(low_rank(tiny_backbone), ["photos/a.jpg"]))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK"])
def test_any_kind_of_image_is_read_as_the_evaluation_reads_it(tiny_backbone, tmp_path, mode):
    from dassl.utils import read_image

    path = draw(tmp_path / f"image.{'tif' if mode == 'CMYK' else 'png'}", mode=mode)
    expected = tiny_backbone.preprocess(read_image(path))
    assert torch.equal(tiny_backbone.preprocess(Image.open(path)), expected)


def test_files_are_read_ahead_and_no_further(tiny_backbone, photos, monkeypatch):
    """However many they are, two batches are in memory."""
    read = []
    convert = type(tiny_backbone).preprocess

    def count(self, image):
        read.append(image)
        return convert(self, image)

    monkeypatch.setattr(type(tiny_backbone), "preprocess", count)
    predictions = predict(low_rank(tiny_backbone), ["photos/a.jpg"] * 20, batch_size=2)
    next(predictions)
    assert len(read) <= 4
    predictions.close()


def test_zero_shot_is_clip(tiny_backbone, photos):
    model = zero_shot(tiny_backbone, NAMES, "art of a {}.")
    tokens = clip.tokenize([f"art of a {name.replace('_', ' ')}." for name in NAMES])
    image = tiny_backbone.preprocess(Image.open("photos/a.jpg"))[None]
    expected = tiny_backbone.model(image, tokens)[0].softmax(dim=1)[0]
    (found,) = predict(model, ["photos/a.jpg"], topk=3)
    torch.testing.assert_close(torch.tensor(found.probs), expected.sort(descending=True)[0])


def test_class_names_of_a_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("tabby cat\n\n  dog \n", encoding="utf-8")
    assert read_classes(path) == ["tabby cat", "dog"]
    path.write_text("cat\ndog\ncat\n")
    with pytest.raises(ValueError, match="names.txt has cat twice: give one class per line"):
        read_classes(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="names.txt has no class name"):
        read_classes(path)


def test_lists_are_in_utf_8(tmp_path):
    """With or without the byte order mark that Windows puts in front, or in its UTF-16."""
    path = tmp_path / "list.txt"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text("café.jpg\nb.jpg\n", encoding=encoding)
        assert read_classes(path) == ["café.jpg", "b.jpg"]
        assert image_files([path]) == [Path("café.jpg"), Path("b.jpg")]
    path.write_text("café.jpg\n", encoding="latin-1")
    for read in (read_classes, lambda path: image_files([path])):
        with pytest.raises(ValueError, match=r"list.txt must be text in UTF-8, .* line 1: save it"):
            read(path)


def test_too_long_a_class_name(tiny_backbone):
    with pytest.raises(ValueError, match="has 82 tokens, and CLIP takes 75"):
        PromptedCLIP(tiny_backbone, Context(torch.zeros(4, 128)), ["cat " * 77], "a photo of a {}.")
