"""Load ImageNet-R: art, cartoons, toys and other renditions (Hendrycks et al., ICCV 2021)."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.imagenet import CLASSNAMES, ImageNetVariant
from datasets.sources import Source


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetVariant):
    """Load 30000 test images of 200 of ImageNet's classes, scored among these (labels 0 to 199)."""

    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    images, classes = 30000, 200
    all_classes = False
    sources = (
        Source(
            "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
            (("imagenet-r", image_dir),),
            "sha256:18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
        ),
        CLASSNAMES,
    )
