"""Load Flowers102: 102 flowers of Britain (Nilsback & Zisserman, ICVGIP 2008), split as in CoOp."""

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import read_json

from datasets.base import FewShotDataset
from datasets.sources import Source, drive
from datasets.splits import check_names


@DATASET_REGISTRY.register()
class OxfordFlowers(FewShotDataset):
    """Load 4093 training, 1633 validation and 2463 test images, not the authors' own split."""

    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    names_file = "cat_to_name.json"  # {"1": "pink primrose", ...}; not needed, but must agree
    images, classes = 8189, 102
    sources = (
        Source(
            "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
            (("jpg", image_dir),),
            "md5:52808999861908f626f3c1f4e79d11fa",
        ),
        drive("1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0", names_file),
        drive("1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT", split_file),
    )

    def read_splits(self):
        splits = super().read_splits()
        names = self.folder / self.names_file
        if names.is_file():
            wanted = {int(number) - 1: name for number, name in read_json(str(names)).items()}
            found = {item.label: item.classname for items in splits for item in items}
            pairs = ((y, name, wanted.get(y, "no name")) for y, name in found.items())
            check_names(pairs, self.folder / self.split_file, names)
        return splits
