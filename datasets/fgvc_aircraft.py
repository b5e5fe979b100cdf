"""Load FGVC-Aircraft: 100 aircraft variants (Maji et al., arXiv 1306.5151), with its own split."""

from dassl.data.datasets import DATASET_REGISTRY, Datum

from datasets.base import FewShotDataset
from datasets.sources import Source
from prompting.files import read_text


@DATASET_REGISTRY.register()
class FGVCAircraft(FewShotDataset):
    """Load 3334 training, 3333 validation and 3333 test images; variants.txt orders the labels."""

    dataset_dir = "fgvc_aircraft"
    image_dir = "images"
    images, classes = 10000, 100
    lists = {part: f"images_variant_{part}.txt" for part in ("train", "val", "test")}
    sources = (
        Source(
            "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            tuple(
                (f"fgvc-aircraft-2013b/data/{name}", name)
                for name in (image_dir, "variants.txt", *lists.values())
            ),
        ),
    )

    def read_splits(self):
        labels = {name: label for label, name in enumerate(self._lines("variants.txt"))}
        return tuple(self._read_list(name, labels) for name in self.lists.values())

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(f"FGVCAircraft expects {path}, which does not exist")
        return [line.strip() for line in read_text(path).splitlines() if line.strip()]

    def _read_list(self, name: str, labels: dict[str, int]) -> list[Datum]:
        """Read lines such as "1025794 707-320": the number of an image, and its variant."""
        items = []
        for line in self._lines(name):
            number, _, variant = line.partition(" ")
            if variant not in labels:
                raise ValueError(
                    f"{self.folder / name} has the variant {variant!r} (image {number}), which is "
                    f"not one of the {len(labels)} in variants.txt, such as {next(iter(labels))!r}"
                )
            items.append(self.item(f"{number}.jpg", labels[variant], variant))
        return items
