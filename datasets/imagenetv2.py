"""Load ImageNetV2: a second test set of ImageNet (Recht et al., ICML 2019), matched frequency."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY

from datasets.folders import check_same_classes, images_by_class
from datasets.imagenet import CLASSNAMES, ImageNetVariant
from datasets.sources import Source


@DATASET_REGISTRY.register()
class ImageNetV2(ImageNetVariant):
    """Load 10000 test images; the folders 0 to 999 are numbered in the order of ImageNet's."""

    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"
    images, classes = 10000, 1000
    sources = (
        Source(
            "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/"
            "imagenetv2-matched-frequency.tar.gz",
            ((image_dir, image_dir),),
        ),
        CLASSNAMES,
    )

    def _classes(self, folder: Path) -> dict[str, list]:
        """Replace numbers by ImageNet's names, because as text "10" comes before "2"."""
        numbered, names = images_by_class(folder), sorted(self.read_names())
        wanted = [str(number) for number in range(len(names))]
        check_same_classes(wanted, numbered, f"the folders in {folder} and the lines of names")
        return {name: numbered[number] for name, number in zip(names, wanted, strict=True)}
