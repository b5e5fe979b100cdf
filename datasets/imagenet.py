"""Load ImageNet: 1000 classes (Deng et al., CVPR 2009); hold what its variants share with it."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, Datum

from datasets.base import FewShotDataset
from datasets.folders import check_same_classes, images_by_class, read_names
from datasets.sources import drive

CLASSNAMES = drive("1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF", "classnames.txt")


class WordNetFolders(FewShotDataset):
    """Load folders named n01440764, ...; classnames.txt, also ImageNet's, has their class names.

    Labels count the folders in sorted order, and files are sorted too: upstream lists them in the
    order of the file system, which gives different shots on different machines.
    """

    unique_names = False  # two kinds of "missile" and of "sunglasses", for example
    all_classes = True  # every class of classnames.txt must have a folder

    def read_names(self) -> dict[str, str]:
        own = self.folder / CLASSNAMES.name
        imagenet = self.folder.parent / "imagenet" / CLASSNAMES.name
        if not (own.is_file() or imagenet.is_file()):
            raise FileNotFoundError(
                f"the file of class names {own} is missing (and so is {imagenet}); get it from "
                f"{CLASSNAMES.url} and put it there"
            )
        return read_names(own if own.is_file() else imagenet)

    def read_folders(self, below: str = "") -> list[Datum]:
        """Return the images of the class folders in the folder `below` of the image folder."""
        names, folder = self.read_names(), self.image_folder / below
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{type(self).__name__} expects the folder {folder}, which does not exist"
            )
        classes = self._classes(folder)
        known = names if self.all_classes else set(names) & set(classes)
        check_same_classes(known, classes, f"the folders in {folder} and those of classnames.txt")
        return [
            self.item(f"{below}/{path}" if below else path, label, names[name])
            for label, (name, paths) in enumerate(classes.items())
            for path in paths
        ]

    def _classes(self, folder: Path) -> dict[str, list]:
        return images_by_class(folder)


class ImageNetVariant(WordNetFolders):
    """Load a test set for prompts trained on ImageNet; no shots are drawn from it."""

    def read_splits(self):
        test = self.read_folders()
        return test, None, test


@DATASET_REGISTRY.register()
class ImageNet(WordNetFolders):
    """Load 1281167 training images; the 50000 validation images are also the test images.

    Without the folder train there are test images only.
    """

    dataset_dir = "imagenet"
    image_dir = "images"
    images, classes = 1331167, 1000
    sources = (CLASSNAMES,)
    by_hand = (
        "register at https://image-net.org, download ILSVRC2012_img_train.tar, "
        "ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz into {folder}/images, "
        "pip install scipy, and let torchvision check, unpack and sort them: python -c "
        "\"from torchvision.datasets import ImageNet as I; [I('{folder}/images', s) "
        "for s in ('train', 'val')]\""
    )

    def read_splits(self):
        test = self.read_folders("val")
        there = (self.image_folder / "train").is_dir()
        return self.read_folders("train") if there else [], test, test
