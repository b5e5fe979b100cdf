"""Load ImageNet-A: photographs that ResNet-50 misclassifies (Hendrycks et al., CVPR 2021)."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.imagenet import CLASSNAMES, ImageNetVariant
from datasets.sources import Source


@DATASET_REGISTRY.register()
class ImageNetA(ImageNetVariant):
    """Load 7500 test images of 200 of ImageNet's classes, scored among these (labels 0 to 199)."""

    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    images, classes = 7500, 200
    all_classes = False
    sources = (
        Source(
            "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
            (("imagenet-a", image_dir),),
            "sha256:3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
        ),
        CLASSNAMES,
    )
