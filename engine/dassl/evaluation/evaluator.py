"""Compute the classification results of a whole split."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from dassl.utils import Registry, atomic_write
from dassl.utils.logger import LOGGER

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> Any:
    """Build the evaluator ``cfg.TEST.EVALUATOR``."""
    return EVALUATOR_REGISTRY.build(cfg.TEST.EVALUATOR, cfg, **kwargs)


@EVALUATOR_REGISTRY.register()
class Classification:
    """Compute top-1 accuracy, error rate and macro-F1, in percent.

    A trainer calls ``reset``, ``process`` per batch, ``evaluate``.
    ``TEST.PER_CLASS_RESULT`` adds one line per class and their mean, ``TEST.COMPUTE_CMAT`` the
    file OUTPUT_DIR/cmat.pt.
    """

    def __init__(self, cfg: CfgNode, lab2cname: dict[int, str] | None = None, **_: Any) -> None:
        self.cfg = cfg
        if cfg.TEST.PER_CLASS_RESULT and lab2cname is None:
            raise ValueError("TEST.PER_CLASS_RESULT needs lab2cname (label -> name), got None.")
        self._lab2cname = lab2cname
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._correct = 0
        self._total = 0
        self._y_true: list[int] = []
        self._y_pred: list[int] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Add a batch: scores ``mo`` (B, C) and labels ``gt`` (B,)."""
        pred = mo.max(1)[1]
        self._correct += int(pred.eq(gt).sum().item())
        self._total += gt.shape[0]
        self._y_true.extend(gt.tolist())
        self._y_pred.extend(pred.tolist())

    def evaluate(self) -> dict[str, float]:
        """Log and return the results; the first one, ``accuracy``, is what a trainer returns."""
        if self._total == 0:
            raise ValueError("No image was evaluated: expected process() before evaluate().")
        counts = self._count()
        present = counts.sum(1) > 0
        accuracy = 100.0 * self._correct / self._total
        results: dict[str, float] = OrderedDict()
        results["accuracy"] = accuracy
        results["error_rate"] = 100.0 - accuracy
        results["macro_f1"] = 100.0 * macro_f1(counts)
        LOGGER.info(
            "=> result\n"
            f"* total: {self._total:,}\n"
            f"* correct: {self._correct:,}\n"
            f"* accuracy: {accuracy:.1f}%\n"
            f"* error: {results['error_rate']:.1f}%\n"
            f"* macro_f1: {results['macro_f1']:.1f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._per_class(counts, np.flatnonzero(present))
        if self.cfg.TEST.COMPUTE_CMAT:
            self._save_confusion(counts)
        return results

    def _count(self) -> np.ndarray:
        """Return counts (C, C): rows are labels, columns predictions."""
        size = 1 + max(*self._y_true, *self._y_pred, *(self._lab2cname or ()))
        counts = np.zeros((size, size), dtype=np.int64)
        np.add.at(counts, (self._y_true, self._y_pred), 1)
        return counts

    def _per_class(self, counts: np.ndarray, labels: np.ndarray) -> float:
        LOGGER.info("=> per-class result")
        accuracies = []
        for label in labels.tolist():
            correct, total = int(counts[label, label]), int(counts[label].sum())
            accuracies.append(100.0 * correct / total)
            LOGGER.info(
                f"* class: {label} ({self._lab2cname[label]})\t"
                f"total: {total:,}\t"
                f"correct: {correct:,}\t"
                f"acc: {accuracies[-1]:.1f}%"
            )
        mean = float(np.mean(accuracies))
        LOGGER.info(f"* average: {mean:.1f}%")
        return mean

    def _save_confusion(self, counts: np.ndarray) -> None:
        """Write a float64 tensor (C, C) whose rows sum to 1, or to 0 if a class has no images."""
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        path = Path(self.cfg.OUTPUT_DIR) / "cmat.pt"
        with atomic_write(path) as file:
            torch.save(torch.from_numpy(shares), file)
        LOGGER.info(f"Confusion matrix is saved to {path}")


def macro_f1(counts: np.ndarray) -> float:
    """Return the mean of 2 TP / (2 TP + FP + FN) over the labels that occur, from (C, C) counts."""
    true_positive = np.diag(counts)
    f1 = 2 * true_positive / np.maximum(counts.sum(0) + counts.sum(1), 1)
    return float(f1[counts.sum(1) > 0].mean())
