"""Refuse a choice on test images: upstream takes them where there are none for validation."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

from dassl.data.datasets import DatasetBase

ADVICE = "set TEST.FINAL_MODEL last_step and TEST.SPLIT test."


def check_validation(dataset: DatasetBase, name: str, wanted_by: str) -> None:
    """Refuse a data set without validation images of its own.

    Args:
        name: of the data set.
        wanted_by: the setting that asks for validation, for the message.

    Raises:
        ValueError: there are none, or some are test images as well.
    """
    if not dataset.val:
        raise ValueError(f"{wanted_by} needs validation images, and {name} has none: {ADVICE}")
    place = _places()
    tested = {place(item.impath) for item in dataset.test}
    shared = [item.impath for item in dataset.val if item.impath and place(item.impath) in tested]
    if shared or dataset.val is dataset.test:
        raise ValueError(
            f"{wanted_by} needs validation images that are no test images, and {len(shared)} of "
            f"the {len(dataset.val)} of {name} are both ({', '.join(shared[:1])}): {ADVICE}"
        )


def _places() -> Callable[[str], str]:
    """Return a function that tells where an image lies, be it behind a link.

    A folder is looked up once: there are a hundred thousand images.
    """
    real = cache(os.path.realpath)

    def place(path: str) -> str:
        found = os.path.join(real(os.path.dirname(path)), os.path.basename(path))
        return os.path.realpath(found) if os.path.islink(found) else found

    return place
