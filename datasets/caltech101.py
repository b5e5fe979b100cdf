"""Caltech101: objects in 100 classes (Fei-Fei et al., CVPR-W 2004), split as in CoOp."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.base import FewShotDataset


@DATASET_REGISTRY.register()
class Caltech101(FewShotDataset):
    """4128 training, 1649 validation and 2465 test images.

    The split file leaves out BACKGROUND_Google and Faces_easy, and calls the folders airplanes,
    Faces, Leopards and Motorbikes airplane, face, leopard and motorbike.
    """

    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
