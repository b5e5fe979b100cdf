"""Average training values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch


def _number(value: float | torch.Tensor) -> float:
    return value.item() if isinstance(value, torch.Tensor) else value


class AverageMeter:
    """Keep the latest value ``val`` and the mean ``avg`` of all ``count`` values since ``reset``.

    With ``ema`` the mean is exponential: 0.9 of the old mean plus 0.1 of the new value.
    """

    def __init__(self, ema: bool = False) -> None:
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        self.val = 0.0
        self.avg = 0.0
        self.sum = 0.0
        self.count = 0

    def update(self, val: float | torch.Tensor, n: int = 1) -> None:
        """Add ``val``, the mean of ``n`` samples."""
        self.val = _number(val)
        self.sum += self.val * n
        self.count += n
        self.avg = 0.9 * self.avg + 0.1 * self.val if self.ema else self.sum / self.count


class MetricMeter:
    """Keep one meter per name; as text ``loss 0.1234 (0.2345) acc 50.0000 (40.0000)``."""

    def __init__(self, delimiter: str = " ") -> None:
        self.meters: defaultdict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict: Mapping[str, float | torch.Tensor] | None) -> None:
        """Add one value per name; ``None`` (a step without a summary) adds nothing."""
        if input_dict is None:
            return
        if not isinstance(input_dict, Mapping):
            raise TypeError(
                "MetricMeter.update expects a dict of name -> number, got "
                f"{type(input_dict).__name__}: return e.g. {{'loss': loss.item()}}."
            )
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def __str__(self) -> str:
        return self.delimiter.join(
            f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items()
        )
