"""CoPrompt's own parts: sentences of each class, and two views of an image."""

import json

import pytest
import torch

from trainers.coprompt import read_descriptions

NAMES = ["face", "leopard", "motorbike", "accordion"]  # the miniature data set's classes
DEPTH = ("TRAINER.CoPrompt.PROMPT_DEPTH", "9")  # the tiny CLIP's


def test_each_class_gets_one_of_its_own_sentences(build, tmp_path):
    """However many each has, and each of them sooner or later."""
    sentences = {name: [f"{name} {n}." for n in range(1 + i)] for i, name in enumerate(NAMES)}
    path = tmp_path / "sentences.json"
    path.write_text(json.dumps(sentences))
    trainer = build("CoPrompt", *DEPTH, "TRAINER.CoPrompt.DESCRIPTIONS", str(path))
    own = [trainer.encode([sentences[name]]) for name in NAMES]
    torch.manual_seed(1)
    seen = [set() for _ in NAMES]
    for _ in range(60):
        for index, drawn in enumerate(trainer.draw_sentences()):
            near = (own[index] @ drawn).sub(1).abs() < 1e-5
            assert near.sum() == 1
            seen[index].add(int(near.nonzero()))
    assert [len(each) for each in seen] == [1, 2, 3, 4]


def test_without_a_file_the_60_templates_are_the_sentences(build):
    trainer = build("CoPrompt", *DEPTH)
    features, first, counts = trainer.sentences
    assert features.shape[0] == 4 * 60 and counts.tolist() == [60] * 4
    texts = [["a photo of a face."], ["a photo of a leopard."]]
    torch.testing.assert_close(features[first[:2]], trainer.encode(texts))


def test_two_views_reach_the_step(run, monkeypatch):
    """The prompted tower sees one, the frozen CLIP another."""
    from trainers.coprompt import CoPrompt

    loss_terms, seen = CoPrompt.loss_terms, []

    def noted(self, images, labels):
        seen.append(images)
        return loss_terms(self, images, labels)

    monkeypatch.setattr(CoPrompt, "loss_terms", noted)
    few = (*DEPTH, "OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "1")
    run("CoPrompt", "two", *few)  # as base2new.yaml has it
    assert seen and all(images.shape[0] == 2 and images.ndim == 5 for images in seen)
    assert not torch.equal(seen[0][0], seen[0][1])
    seen.clear()
    run("CoPrompt", "one", *few, "DATALOADER.K_TRANSFORMS", "1")
    assert all(images.ndim == 4 for images in seen)


def test_descriptions_name_the_classes(tmp_path):
    path = tmp_path / "sentences.json"
    path.write_text(json.dumps({"ceiling fan": ["It turns."], "ant": ["Small."]}))
    assert read_descriptions(path, ["ceiling_fan", "ant"]) == [["It turns."], ["Small."]]
    for content in ({"ant": ["Small."]}, {"ceiling_fan": []}, {"ceiling_fan": "It."}, ["It."]):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match='sentences for the class "ceiling_fan": add one'):
            read_descriptions(path, ["ceiling_fan"])
    path.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_descriptions(path, ["ant"])
