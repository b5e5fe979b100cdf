"""Load Food-101: 101 dishes (Bossard et al., ECCV 2014), split as in CoOp."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.base import FewShotDataset
from datasets.sources import Source, drive


@DATASET_REGISTRY.register()
class Food101(FewShotDataset):
    """Load 50500 training, 20200 validation and 30300 test images, not the authors' own split."""

    dataset_dir = "food-101"
    image_dir = "images"
    split_file = "split_zhou_Food101.json"
    images, classes = 101000, 101
    class_folders = True
    sources = (
        Source(
            "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
            (("food-101/images", image_dir),),
            "md5:85eeb15f3717b99a5da872d97d918f87",
        ),
        drive("1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl", split_file),
    )
