"""Load Oxford-IIIT Pets: 37 breeds of cats and dogs (Parkhi et al., CVPR 2012), as in CoOp."""

from pathlib import PurePosixPath

from dassl.data.datasets import DATASET_REGISTRY

from datasets.base import FewShotDataset
from datasets.sources import Source, drive


@DATASET_REGISTRY.register()
class OxfordPets(FewShotDataset):
    """Load 2944 training, 736 validation and 3669 test images; class names are lower case."""

    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"
    images, classes = 7349, 37
    class_folders = True  # in effect: a file is named after its breed, see class_of
    sources = (
        Source(
            "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
            (("images", image_dir),),
            "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
        ),
        drive("1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs", split_file),
    )

    def class_of(self, path: PurePosixPath) -> str:
        """Return the breed in a file name: "Abyssinian_12.jpg" is of the class abyssinian."""
        return path.stem.rpartition("_")[0].lower()
