"""Refuse a choice on test images: upstream takes them where there are none for validation."""

from __future__ import annotations

import os

from dassl.data.datasets import DatasetBase, Datum

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
    if shared := shared_images(dataset):
        raise ValueError(
            f"{wanted_by} needs validation images that are no test images, and {len(shared)} of "
            f"the {len(dataset.val)} of {name} are both ({shared[0].impath}): {ADVICE}"
        )


def shared_images(dataset: DatasetBase) -> list[Datum]:
    """Return the validation images that are test images too, also through a link."""
    if dataset.val is dataset.test:
        return dataset.val
    tested = {os.path.realpath(item.impath) for item in dataset.test}
    return [i for i in dataset.val if i.impath and os.path.realpath(i.impath) in tested]
