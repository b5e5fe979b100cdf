"""Load SUN397: 397 kinds of scenes (Xiao et al., CVPR 2010), split as in CoOp."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.base import FewShotDataset
from datasets.sources import Source, drive


@DATASET_REGISTRY.register()
class SUN397(FewShotDataset):
    """Load 15880 training, 3970 validation and 19850 test images of the 108754 unpacked ones."""

    dataset_dir = "sun397"
    image_dir = "SUN397"
    split_file = "split_zhou_SUN397.json"
    images, classes = 39700, 397
    class_folders = True
    sources = (
        Source(
            "http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
            (("SUN397", image_dir),),
            "md5:8ca2778205c41d23104230ba66911c7a",
        ),
        drive("1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq", split_file),
    )

    def class_name(self, key: str) -> str:
        """Return "outdoor apartment_building" for "a/apartment_building/outdoor"."""
        return " ".join(reversed(key.split("/")[1:]))
