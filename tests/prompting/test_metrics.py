"""The metrics of an evaluation: by hand, and against a plain reference."""

import json

import numpy as np
import pytest
import torch
from dassl.evaluation.evaluator import macro_f1 as engine_macro_f1

from prompting.metrics import (
    calibration_error,
    confusion,
    equal_mass,
    equal_width,
    evaluation_metrics,
    summarise,
)

NAMES = ["ant", "bee", "cat"]
# label, prediction, confidence
BY_HAND = [(0, 0, 0.95), (0, 0, 0.9), (0, 1, 0.85), (1, 1, 0.4), (1, 0, 0.35)]


def of(rows, names=NAMES):
    labels, predictions, confidences = zip(*rows, strict=True)
    seen = (torch.tensor(labels), torch.tensor(predictions))
    return evaluation_metrics(*seen, torch.tensor(confidences, dtype=torch.float64), names)


def test_by_hand():
    found = of(BY_HAND)
    # ant: 2 * 2 / (2 * 2 + 1 + 1), bee: 2 * 1 / (2 * 1 + 1 + 1); cat has no images.
    assert found["macro_f1"] == pytest.approx(100 * (4 / 6 + 2 / 4) / 2)
    assert found["per_class"] == [
        {"class": "ant", "images": 3, "accuracy": pytest.approx(200 / 3)},
        {"class": "bee", "images": 2, "accuracy": 50.0},
        {"class": "cat", "images": 0, "accuracy": None},
    ]
    assert found["confusion"] == [{"0": 2, "1": 1}, {"0": 1, "1": 1}, {}]
    # (0.3, 0.4]: 0.35 wrong, 0.4 right. (0.8, 0.9]: 0.85 wrong, 0.9 right. (0.9, 1]: 0.95 right.
    filled = {n: b for n, b in enumerate(found["bins"]) if b["count"]}
    assert filled == {
        3: {"count": 2, "confidence": pytest.approx(37.5), "accuracy": 50.0},
        8: {"count": 2, "confidence": pytest.approx(87.5), "accuracy": 50.0},
        9: {"count": 1, "confidence": pytest.approx(95.0), "accuracy": 100.0},
    }
    assert found["bins"][0] == {"count": 0, "confidence": None, "accuracy": None}
    assert found["ece"] == pytest.approx(2 / 5 * 12.5 + 2 / 5 * 37.5 + 1 / 5 * 5)
    # Five images in ten bins: one each, the rest empty.
    assert found["adaptive_ece"] == pytest.approx((35 + 60 + 85 + 10 + 5) / 5)


def test_bins_are_closed_on_the_right():
    edges = torch.tensor([0.0, 0.1, 0.1 + 1e-9, 0.3, 0.7, 0.9, 1.0], dtype=torch.float64)
    found = [index.tolist() for index in equal_width(edges)]
    assert found == [[0, 1], [2], [3], [], [], [], [4], [], [5], [6]]


def test_adaptive_bins_have_equally_many_images():
    confidences = torch.rand(103)
    bins = equal_mass(confidences)
    assert [len(index) for index in bins] == [11] * 3 + [10] * 7
    means = [confidences[index].mean().item() for index in bins]
    assert means == sorted(means)
    assert sorted(torch.cat(bins).tolist()) == list(range(103))


def test_confidence_that_is_accuracy_has_no_error():
    """Half of the images with 0.5 are right, all with 1."""
    rows = [(0, 0, 0.5), (0, 1, 0.5)] * 5 + [(1, 1, 1.0)] * 10
    found = of(rows)
    assert found["ece"] == pytest.approx(0.0) == found["adaptive_ece"]
    assert of([(0, 1, 1.0)])["ece"] == 100.0


def plain_ece(groups, right, confidences):
    """Guo et al., Eq. 3, with loops."""
    error = 0.0
    for group in groups:
        if len(group):
            accuracy = sum(right[i] for i in group) / len(group)
            confidence = sum(confidences[i] for i in group) / len(group)
            error += len(group) / len(right) * abs(accuracy - confidence)
    return 100 * error


@pytest.mark.parametrize("images", [1, 7, 400])
def test_like_a_plain_reference(images):
    rng = np.random.default_rng(images)
    logits = rng.normal(size=(images, 7)) * 3
    labels = rng.integers(0, 7, images)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predictions, confidences = shares.argmax(axis=1), shares.max(axis=1)
    right = predictions == labels
    found = of(
        zip(labels.tolist(), predictions.tolist(), confidences.tolist(), strict=True), "abcdefg"
    )
    width = [
        [i for i, c in enumerate(confidences) if b / 10 < c <= (b + 1) / 10] for b in range(10)
    ]
    mass = np.array_split(sorted(range(images), key=lambda i: confidences[i]), 10)
    assert found["ece"] == pytest.approx(plain_ece(width, right, confidences))
    assert found["adaptive_ece"] == pytest.approx(plain_ece(mass, right, confidences))
    counts = confusion(torch.from_numpy(labels), torch.from_numpy(predictions), 7)
    assert found["macro_f1"] == pytest.approx(100 * engine_macro_f1(counts.numpy()), rel=1e-12)
    assert sum(sum(row.values()) for row in found["confusion"]) == images


def test_bins_can_be_taken_together():
    """The error of summaries is that of the images: what the report draws is what was measured."""
    right, confidences = torch.rand(50) > 0.4, torch.rand(50)
    bins = summarise(equal_width(confidences), right, confidences)
    groups = [index.tolist() for index in equal_width(confidences)]
    expected = plain_ece(groups, right.tolist(), confidences.tolist())
    assert calibration_error(bins) == pytest.approx(expected)


def test_a_thousand_classes_stay_small():
    """50,000 images of ImageNet, 60 % right: below a megabyte as train.py writes it."""
    labels = torch.arange(1000).repeat_interleave(50)
    wrong = torch.rand(50_000) > 0.6
    predictions = torch.where(wrong, torch.randint(0, 1000, (50_000,)), labels)
    found = evaluation_metrics(
        labels, predictions, torch.rand(50_000), [f"c{n}" for n in range(1000)]
    )
    assert len(json.dumps(found, indent=4, separators=(",", ": "))) < 2**20
