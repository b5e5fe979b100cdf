"""Register the data sets, one loader per file, in DATASET_REGISTRY on import."""

from dassl.data.datasets import DATASET_REGISTRY
from yacs.config import CfgNode

from datasets import (
    caltech101,
    dtd,
    eurosat,
    fgvc_aircraft,
    food101,
    image_folder,
    imagenet,
    imagenet_a,
    imagenet_r,
    imagenet_sketch,
    imagenetv2,
    oxford_flowers,
    oxford_pets,
    shapeworld,
    stanford_cars,
    sun397,
    ucf101,
)
from datasets.base import FewShotDataset

# The fifteen of the published tables, in their order.
FAMILY = (
    imagenet.ImageNet,
    caltech101.Caltech101,
    oxford_pets.OxfordPets,
    stanford_cars.StanfordCars,
    oxford_flowers.OxfordFlowers,
    food101.Food101,
    fgvc_aircraft.FGVCAircraft,
    sun397.SUN397,
    dtd.DescribableTextures,
    eurosat.EuroSAT,
    ucf101.UCF101,
    imagenetv2.ImageNetV2,
    imagenet_sketch.ImageNetSketch,
    imagenet_a.ImageNetA,
    imagenet_r.ImageNetR,
)
# All that `python -m datasets check` knows, also those of your own.
ON_DISK = {
    name: loader
    for name, loader in ((n, DATASET_REGISTRY.get(n)) for n in DATASET_REGISTRY.registered_names())
    if issubclass(loader, FewShotDataset) and loader.dataset_dir
}

__all__ = ["FAMILY", "ON_DISK", "add_config", "check_folders", "image_folder", "shapeworld"]


def add_config(cfg: CfgNode) -> None:
    """Add the family's key for base or new classes, and our keys for splits and own images."""
    node = cfg.DATASET
    node.SUBSAMPLE_CLASSES = "all"  # all, base (first half), new (second half)
    node.NEW_SPLIT = False  # a random split instead of the published one; results record it
    node.SPLIT_SEED = 1  # of random splits; separate from SEED, so that all runs share a test set
    node.IMAGE_FOLDER = CfgNode()
    node.IMAGE_FOLDER.CLASSNAMES = ""  # file of class names, "folder class name" per line
    node.IMAGE_FOLDER.SPLIT_FILE = ""  # JSON of {"train": [[path, label, class name], ...], ...}


def check_folders(cfg: CfgNode) -> None:
    """Raise FileNotFoundError where the folders of a run's data set are not; nothing is read."""
    if loader := ON_DISK.get(cfg.DATASET.NAME):
        loader.find_folders(cfg.DATASET.ROOT)
