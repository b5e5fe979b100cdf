"""Load your own images without writing code; docs/own-images.md shows how."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY

from datasets.base import FewShotDataset, Splits
from datasets.folders import (
    check_same_classes,
    images_by_class,
    random_split,
    read_names,
    subfolders,
)
from datasets.splits import check_names, read_split


@DATASET_REGISTRY.register()
class ImageFolder(FewShotDataset):
    """Load one folder per class from DATASET.ROOT, or from its folders train, test and maybe val.

    Labels count the class folders in sorted order. With class folders only, every class is split
    by DATASET.SPLIT_SEED; a split file, if given, decides everything.
    """

    dataset_dir = image_dir = "."
    root_holds = "the class folders"

    def read_splits(self) -> Splits:
        options = self.settings.IMAGE_FOLDER
        names_path = self._path(options.CLASSNAMES)
        self.renamed = read_names(names_path) if names_path else {}
        if options.SPLIT_FILE:
            return self._read_split_file(self._path(options.SPLIT_FILE), names_path)
        found = subfolders(self.folder)
        if {"train", "test"} <= set(found):
            parts = self._read_parts(found)
        else:
            seed = self.settings.SPLIT_SEED
            self.split_source = f"random split, DATASET.SPLIT_SEED {seed}"
            parts = random_split(images_by_class(self.folder), seed)
        if names_path:
            check_same_classes(parts[0], self.renamed, f"the class folders and {names_path}")
        train, val, test = self.items_of(parts)
        return train, val or None, test

    def _path(self, name: str) -> Path | None:
        """Return a path of the configuration, which starts in DATASET.ROOT unless absolute."""
        return self.folder / Path(name).expanduser() if name else None

    def _read_parts(self, found: list[str]) -> tuple[dict[str, list[str]], ...]:
        others = sorted(set(found) - {"train", "val", "test"})
        if others:
            raise ValueError(
                f"{self.folder} has the folders train and test, so expected only val next to "
                f"them, got {others[:3]}: move them away, or use class folders alone"
            )
        parts = {
            part: images_by_class(self.folder / part)
            for part in ("train", "val", "test")
            if part in found
        }
        self.split_source = f"the folders {', '.join(parts)}"
        for part in parts:
            where = f"the classes in {self.folder / part} and in {self.folder / 'train'}"
            check_same_classes(parts["train"], parts[part], where)
            for name, paths in parts[part].items():
                parts[part][name] = [f"{part}/{path}" for path in paths]
        return parts["train"], parts.get("val", {}), parts["test"]

    def _read_split_file(self, path: Path, names_path: Path | None) -> Splits:
        self.split_source = str(path)
        splits = read_split(path, self.image_folder, self.item, "your own files")
        if names_path:
            items = [item for items in splits for item in items]
            folders = [Path(i.impath).relative_to(self.image_folder).parts[0] for i in items]
            pairs = (
                (folder, item.classname, self.renamed.get(folder, "no name"))
                for folder, item in zip(folders, items, strict=True)
            )
            check_names(pairs, path, names_path)
        return splits
