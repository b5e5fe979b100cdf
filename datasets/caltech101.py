"""Load Caltech101: objects in 100 classes (Fei-Fei et al., CVPR-W 2004), split as in CoOp."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.base import FewShotDataset
from datasets.sources import Source, drive


@DATASET_REGISTRY.register()
class Caltech101(FewShotDataset):
    """Load 4128 training, 1649 validation and 2465 test images.

    The split file leaves out BACKGROUND_Google and Faces_easy, and renames four classes.
    """

    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    images, classes = 8242, 100
    class_folders = True
    ignored = ("BACKGROUND_Google", "Faces_easy")
    renamed = {
        "airplanes": "airplane",
        "Faces": "face",
        "Leopards": "leopard",
        "Motorbikes": "motorbike",
    }
    sources = (
        Source(
            "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
            (("101_ObjectCategories", image_dir),),
            "md5:3138e1922a9193bfa496528edbbc45d0",
            inner="caltech-101/101_ObjectCategories.tar.gz",
        ),
        drive("1hyarUivQE36mY6jSomru6Fjd-JzwcCzN", split_file),
    )
