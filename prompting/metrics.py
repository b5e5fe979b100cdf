"""Compute what an evaluation shows beyond accuracy: per class, macro-F1, calibration, confusions.

It is made of three numbers per image: the label, the class with the largest logit, and its
confidence, the softmax of the logits at the model's own scale. All figures are percent. The
expected calibration error (ECE) weighs how far confidence and accuracy are apart by the images of
each bin b (Guo et al. 2017, arXiv 1706.04599, Eq. 3):

    ECE = sum_b |B_b| / N |accuracy(B_b) - confidence(B_b)|

Its ten bins are equally wide, ((b - 1) / 10, b / 10], with 0 in the first. Those of the adaptive
ECE hold equally many images each, in the order of their confidence (Nixon et al. 2019,
arXiv 1904.01685).

Letters: N images, C classes.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

BINS = 10


def evaluation_metrics(
    labels: Tensor, predictions: Tensor, confidences: Tensor, classnames: Sequence[str]
) -> dict:
    """Return the figures of an evaluation, as plain values for `results.json`.

    Args:
        labels, predictions: (N,) in 0..C-1.
        confidences: (N,) in 0..1.
        classnames: C of them.

    Returns:
        macro_f1, ece, adaptive_ece; per_class (name, number of images, accuracy or None); bins of
        both kinds; confusion: for each label the predictions that occurred and how often.
    """
    counts = confusion(labels, predictions, len(classnames))
    right = labels == predictions
    bins = {
        "bins": summarise(equal_width(confidences), right, confidences),
        "adaptive_bins": summarise(equal_mass(confidences), right, confidences),
    }
    return {
        "macro_f1": macro_f1(counts),
        "ece": calibration_error(bins["bins"]),
        "adaptive_ece": calibration_error(bins["adaptive_bins"]),
        "per_class": per_class(counts, classnames),
        **bins,
        "confusion": [
            {str(label): row[label].item() for label in row.nonzero().flatten().tolist()}
            for row in counts
        ],
    }


def confusion(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """Return counts (C, C): rows are labels, columns predictions."""
    counts = torch.bincount(labels * classes + predictions, minlength=classes**2)
    return counts.view(classes, classes)


def per_class(counts: Tensor, classnames: Sequence[str]) -> list[dict]:
    """Return for each class its name, its number of images, and the accuracy on them."""
    totals, right = counts.sum(dim=1).tolist(), counts.diagonal().tolist()
    return [
        {"class": name, "images": n, "accuracy": 100.0 * k / n if n else None}
        for name, n, k in zip(classnames, totals, right, strict=True)
    ]


def macro_f1(counts: Tensor) -> float:
    """Return the mean of 2 TP / (2 TP + FP + FN) over the classes that have images."""
    f1 = 2.0 * counts.diagonal().double() / (counts.sum(dim=0) + counts.sum(dim=1)).clamp(min=1)
    return 100.0 * f1[counts.sum(dim=1) > 0].mean().item()


def equal_width(confidences: Tensor) -> list[Tensor]:
    """Return which images are in each of the bins (0, 1/10], (1/10, 2/10], ..., (9/10, 1]."""
    edges = torch.arange(1, BINS, dtype=torch.float64) / BINS
    number = torch.bucketize(confidences.double(), edges)  # how many edges are below it
    return [(number == b).nonzero().flatten() for b in range(BINS)]


def equal_mass(confidences: Tensor) -> list[Tensor]:
    """Return which images are in each of ten bins of N / 10, from the lowest confidence up."""
    return list(torch.tensor_split(confidences.argsort(stable=True), BINS))


def summarise(bins: Iterable[Tensor], right: Tensor, confidences: Tensor) -> list[dict]:
    """Return the images of each bin: how many, their mean confidence and their accuracy."""
    found = []
    for index in bins:
        means = (confidences[index].double(), right[index].double()) if len(index) else ()
        values = [100.0 * mean.mean().item() for mean in means] or [None, None]
        found.append({"count": len(index), "confidence": values[0], "accuracy": values[1]})
    return found


def calibration_error(bins: Sequence[dict]) -> float:
    """Return the ECE of bins as `summarise` returns them."""
    total = sum(bin_["count"] for bin_ in bins)
    filled = [bin_ for bin_ in bins if bin_["count"]]
    return sum(b["count"] / total * abs(b["accuracy"] - b["confidence"]) for b in filled)
