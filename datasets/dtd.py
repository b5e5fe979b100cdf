"""Load DTD: describable textures in 47 classes (Cimpoi et al., CVPR 2014), split as in CoOp."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.base import FewShotDataset
from datasets.sources import Source, drive


@DATASET_REGISTRY.register()
class DescribableTextures(FewShotDataset):
    """Load 2820 training, 1128 validation and 1692 test images."""

    dataset_dir = "dtd"
    image_dir = "images"
    split_file = "split_zhou_DescribableTextures.json"
    images, classes = 5640, 47
    class_folders = True
    sources = (
        Source(
            "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
            (("dtd/images", image_dir),),
            "md5:fff73e5086ae6bdbea199a49dfb8a4c1",
        ),
        drive("1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x", split_file),
    )
