"""Define an image with its label, and a data set of such images."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from PIL import Image
from yacs.config import CfgNode

from dassl.utils import Registry, check_availability, check_image, download_url, read_image
from dassl.utils.logger import LOGGER

from .archive import extract_archive

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> Any:
    """Build the data set ``cfg.DATASET.NAME``."""
    return DATASET_REGISTRY.build(cfg.DATASET.NAME, cfg)


class Datum:
    """Hold the path of an image, its label, its domain and the name of its class.

    The file is not accessed before ``open``. A data set that renders its images overrides
    ``open`` in a subclass.
    """

    def __init__(
        self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""
    ) -> None:
        if not isinstance(impath, str):
            raise TypeError(f"Datum expects impath as a str, got {impath!r}: use str(path).")
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname

    def open(self) -> Image.Image:
        """Return the image as RGB."""
        return read_image(self.impath)

    def check(self) -> None:
        """Raise what ``open`` would, as far as the first bytes of the file tell."""
        check_image(self.impath)


class DatasetBase:
    """Hold the splits of a data set, each a list of ``Datum``.

    Args:
        train_x: labelled training images; labels and class names are taken from here.
        train_u: unlabelled training images.
        val: validation images.
        test: test images.
    """

    dataset_dir = ""
    domains: Sequence[str] = ()

    def __init__(
        self,
        train_x: list[Datum],
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ) -> None:
        if not train_x:
            raise ValueError(
                f"{type(self).__name__}: expected training images in train_x, got none. "
                "Check DATASET.ROOT and the split file."
            )
        self._train_x = train_x
        self._train_u = train_u
        self._val = val
        self._test = test
        self._num_classes = self.get_num_classes(train_x)
        self._lab2cname, self._classnames = self.get_lab2cname(train_x)

    # Properties, as upstream's: a subclass may override one, and ask ``super()`` for this.
    train_x = property(attrgetter("_train_x"))
    train_u = property(attrgetter("_train_u"))
    val = property(attrgetter("_val"))
    test = property(attrgetter("_test"))
    lab2cname = property(attrgetter("_lab2cname"))
    classnames = property(attrgetter("_classnames"))
    num_classes = property(attrgetter("_num_classes"))

    @staticmethod
    def get_num_classes(data_source: list[Datum]) -> int:
        """Return the highest label plus one."""
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: list[Datum]) -> tuple[dict[int, str], list[str]]:
        """Return a dict from label to class name, and the class names in label order."""
        names: dict[int, str] = {}
        for item in data_source:
            name = names.setdefault(item.label, item.classname)
            if name != item.classname:
                raise ValueError(
                    f"Label {item.label} has two class names, {name!r} and {item.classname!r}: "
                    "give every class its own label."
                )
        names = dict(sorted(names.items()))
        return names, list(names.values())

    def check_input_domains(
        self, source_domains: Sequence[str], target_domains: Sequence[str]
    ) -> None:
        """Raise ``ValueError`` for an empty list or a domain that is not in ``domains``."""
        for kind, chosen in (("SOURCE", source_domains), ("TARGET", target_domains)):
            if not chosen:
                raise ValueError(
                    f"DATASET.{kind}_DOMAINS is empty: expected some of {list(self.domains)}."
                )
            self.is_input_domain_valid(chosen)

    def is_input_domain_valid(self, input_domains: Sequence[str]) -> None:
        """Raise ``ValueError`` for a domain that is not in ``domains``."""
        for domain in input_domains:
            check_availability(domain, self.domains, "domain")

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Download an archive to the file ``dst`` and unpack it in the same folder.

        Args:
            url: address; of Google Drive if ``from_gdrive`` (needs gdown), else http(s).
            dst: file name, ending in .zip, .tar, .tar.gz or .tgz.
        """
        path = Path(dst)
        path.parent.mkdir(parents=True, exist_ok=True)
        if from_gdrive:
            try:
                import gdown  # optional
            except ImportError:
                raise ImportError(
                    f"Downloading {url} from Google Drive needs gdown: pip install gdown, or "
                    f"put the file at {path} by hand."
                ) from None
            gdown.download(url, str(path), quiet=False)
        else:
            download_url(url, path)
        LOGGER.info("Extracting file ...")
        extract_archive(path, path.parent)
        LOGGER.info(f"File extracted to {path.parent}")

    def generate_fewshot_dataset(
        self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False
    ) -> list[Datum] | list[list[Datum]] | tuple[list[Datum], ...]:
        """Draw ``num_shots`` images per class from every source, with Python's global ``random``.

        Classes are drawn in the order in which they first occur, so a seed gives the same draws
        as upstream.

        Args:
            data_sources: lists of ``Datum``.
            num_shots: images per class; below 1 the sources are returned unchanged.
            repeat: draw with replacement where a class has fewer images; otherwise all images of
                such a class are taken.

        Returns:
            A list of ``Datum`` for one source, else one such list per source.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        LOGGER.info(f"Creating a {num_shots}-shot dataset")
        drawn = []
        for source in data_sources:
            shots: list[Datum] = []
            for items in self.split_dataset_by_label(source).values():
                if len(items) >= num_shots:
                    shots += random.sample(items, num_shots)
                elif repeat:
                    shots += random.choices(items, k=num_shots)
                else:
                    shots += items
            drawn.append(shots)
        return drawn[0] if len(drawn) == 1 else drawn

    @staticmethod
    def split_dataset_by_label(data_source: list[Datum]) -> dict[int, list[Datum]]:
        """Return a dict from label to its images, in the order in which labels first occur."""
        groups: dict[int, list[Datum]] = defaultdict(list)
        for item in data_source:
            groups[item.label].append(item)
        return groups

    @staticmethod
    def split_dataset_by_domain(data_source: list[Datum]) -> dict[int, list[Datum]]:
        """Return a dict from domain to its images, in the order in which domains first occur."""
        groups: dict[int, list[Datum]] = defaultdict(list)
        for item in data_source:
            groups[item.domain].append(item)
        return groups
