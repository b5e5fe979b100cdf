"""Load ImageNet-Sketch: drawings of ImageNet's classes (Wang et al., NeurIPS 2019)."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.imagenet import CLASSNAMES, ImageNetVariant
from datasets.sources import drive


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetVariant):
    """Load 50889 black-and-white test images of the 1000 classes."""

    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    images, classes = 50889, 1000
    sources = (
        drive(
            "1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA",
            "ImageNet-Sketch.zip",
            places=(("sketch", image_dir),),
        ),
        CLASSNAMES,
    )
