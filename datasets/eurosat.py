"""Load EuroSAT: land use from satellites (Helber et al., JSTARS 2019), split as in CoOp."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.base import FewShotDataset
from datasets.sources import Source, drive


@DATASET_REGISTRY.register()
class EuroSAT(FewShotDataset):
    """Load 13500 training, 5400 validation and 8100 test images; the split file has long names."""

    dataset_dir = "eurosat"
    image_dir = "2750"
    split_file = "split_zhou_EuroSAT.json"
    images, classes = 27000, 10
    class_folders = True
    renamed = {
        "AnnualCrop": "Annual Crop Land",
        "HerbaceousVegetation": "Herbaceous Vegetation Land",
        "Highway": "Highway or Road",
        "Industrial": "Industrial Buildings",
        "Pasture": "Pasture Land",
        "PermanentCrop": "Permanent Crop Land",
        "Residential": "Residential Buildings",
        "SeaLake": "Sea or Lake",
    }
    sources = (
        Source(
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
            "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
            (("2750", image_dir),),
            "md5:c8fa014336c82ac7804f0398fcb19387",
        ),
        drive("1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o", split_file),
    )
