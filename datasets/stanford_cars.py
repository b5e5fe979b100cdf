"""Load Stanford Cars: 196 models of cars (Krause et al., ICCV-W 2013), split as in CoOp."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.base import FewShotDataset
from datasets.sources import drive


@DATASET_REGISTRY.register()
class StanfordCars(FewShotDataset):
    """Load 6509 training, 1635 validation and 8041 test images, in cars_train/ and cars_test/.

    Stanford took the images offline in 2023 (github.com/pytorch/vision/issues/7545).
    """

    dataset_dir = "stanford_cars"
    split_file = "split_zhou_StanfordCars.json"
    images, classes = 16185, 196
    sources = (drive("1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT", split_file),)
    by_hand = (
        "get the images from https://www.kaggle.com/datasets/jessicali9530/stanford-cars-dataset "
        "and put them at {folder}/cars_train/00001.jpg and {folder}/cars_test/00001.jpg (the "
        "archive has each folder twice, one in the other)"
    )
