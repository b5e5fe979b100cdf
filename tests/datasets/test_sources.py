"""Compare addresses and checksums with those of torchvision's own data sets."""

import re
import sys

import pytest

from datasets import FAMILY, ON_DISK

NAMES = [loader.__name__ for loader in FAMILY]


def test_addresses_and_checksums_are_torchvision_s():
    """Notice a file that moved, because torchvision follows moved files."""
    from torchvision import datasets as tv

    flowers = tv.Flowers102
    images, md5 = flowers._file_dict["image"]
    wanted = {
        "OxfordPets": tv.OxfordIIITPet._RESOURCES[0],
        "OxfordFlowers": (flowers._download_url_prefix + images, md5),
        "FGVCAircraft": (tv.FGVCAircraft._URL, ""),
        "DescribableTextures": (tv.DTD._URL, tv.DTD._MD5),
        "Food101": (tv.Food101._URL, tv.Food101._MD5),
        "SUN397": (tv.SUN397._DATASET_URL, tv.SUN397._DATASET_MD5),
    }
    for name, (url, md5) in wanted.items():
        source = ON_DISK[name].sources[0]
        assert (source.url, source.checksum) == (url, md5 and f"md5:{md5}"), name


@pytest.mark.parametrize("name, tv_name", [("EuroSAT", "EuroSAT"), ("Caltech101", "Caltech101")])
def test_addresses_that_torchvision_has_in_its_code(name, tv_name, tmp_path, monkeypatch):
    import torchvision
    from torchvision import datasets as tv

    if tuple(int(x) for x in torchvision.__version__.split("+")[0].split(".")[:2]) < (0, 23):
        pytest.skip("older ones have addresses that are dead by now")
    asked = []

    class Stop(Exception):
        pass

    def record(url, *args, md5=None, **kwargs):
        asked.append((url, md5))
        raise Stop

    module = sys.modules[getattr(tv, tv_name).__module__]
    monkeypatch.setattr(module, "download_and_extract_archive", record)
    with pytest.raises(Stop):
        getattr(tv, tv_name)(str(tmp_path), download=True)
    source = ON_DISK[name].sources[0]
    assert asked == [(source.url, source.checksum.removeprefix("md5:"))]


def test_every_data_set_says_where_it_comes_from():
    for name in NAMES:
        loader = ON_DISK[name]
        targets = {target for source in loader.sources for target in source.targets}
        if loader.split_file:
            assert loader.split_file in targets
        assert loader.by_hand or (loader.image_dir in targets)
        for source in loader.sources:
            assert source.url.startswith("http")
            assert not source.checksum or re.fullmatch(
                r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", source.checksum
            )
