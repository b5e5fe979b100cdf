"""Merges YAML files into the configuration of the train.py in the current folder.

    python merge.py FILE ...

The family's train.py has `extend_cfg` for it, ours `setup_cfg`.
"""

import runpy
import sys
from pathlib import Path

from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY

train = runpy.run_path("train.py")


def merge(path: Path) -> None:
    if "extend_cfg" in train:
        cfg = get_cfg_default()
        train["extend_cfg"](cfg)
        cfg.merge_from_file(str(path))
        return
    flag = "--dataset-config-file" if path.parent.name == "datasets" else "--config-file"
    method = path.parent.name if path.parent.name in TRAINER_REGISTRY else "MMLoP"
    train["setup_cfg"](train["parse_args"]([flag, str(path), "--trainer", method]))


for name in sys.argv[1:]:
    try:
        merge(Path(name))
    except (KeyError, ValueError, AssertionError) as error:
        sys.exit(f"{name}: {error}")
