"""Load UCF101: actions, by a video's middle frame (Soomro et al., 2012), split as in CoOp."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.base import FewShotDataset
from datasets.sources import drive


@DATASET_REGISTRY.register()
class UCF101(FewShotDataset):
    """Load 7639 training, 1898 validation and 3783 test images."""

    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    images, classes = 13320, 101
    class_folders = True
    sources = (
        drive(
            "10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O",
            "UCF-101-midframes.zip",
            places=(("UCF-101-midframes", image_dir),),
        ),
        drive("1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y", split_file),
    )
