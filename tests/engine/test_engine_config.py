"""Test the config tree: the family's YAMLs merge, callers do not share nodes."""

import pytest
from dassl.config import get_cfg_default
from yacs.config import CfgNode

FAMILY_YAML = """
DATALOADER: {TRAIN_X: {BATCH_SIZE: 4}, TEST: {BATCH_SIZE: 100}, NUM_WORKERS: 8}
INPUT:
  SIZE: (224, 224)
  INTERPOLATION: "bicubic"
  PIXEL_MEAN: [0.48145466, 0.4578275, 0.40821073]
  PIXEL_STD: [0.26862954, 0.26130258, 0.27577711]
  TRANSFORMS: ["random_resized_crop", "random_flip", "normalize"]
OPTIM:
  {NAME: "sgd", LR: 0.0035, MAX_EPOCH: 5, LR_SCHEDULER: "cosine", WARMUP_EPOCH: 1,
   WARMUP_TYPE: "constant", WARMUP_CONS_LR: 1e-5}
TRAIN: {PRINT_FREQ: 20}
MODEL: {BACKBONE: {NAME: "ViT-B/16"}}
DATASET: {NAME: "OxfordPets", NUM_SHOTS: 16}
"""


def test_a_family_yaml_merges(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(FAMILY_YAML)
    cfg = get_cfg_default()
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    cfg.TRAINER.COOP = CfgNode({"N_CTX": 16})
    cfg.merge_from_file(str(path))
    cfg.merge_from_list(["TRAINER.COOP.N_CTX", 4, "DATASET.SUBSAMPLE_CLASSES", "base"])
    cfg.freeze()
    assert (cfg.OPTIM.LR, cfg.OPTIM.WARMUP_CONS_LR) == (0.0035, 1e-5)
    assert (cfg.TRAINER.COOP.N_CTX, cfg.INPUT.SIZE) == (4, (224, 224))


def test_unset_keys_keep_upstreams_values():
    cfg = get_cfg_default()
    assert (cfg.OPTIM.WEIGHT_DECAY, cfg.OPTIM.MOMENTUM, cfg.OPTIM.WARMUP_RECOUNT) == (
        5e-4,
        0.9,
        True,
    )
    assert cfg.INPUT.RRCROP_SCALE == (0.08, 1.0)
    assert (cfg.TEST.FINAL_MODEL, cfg.TRAIN.CHECKPOINT_FREQ) == ("last_step", 0)
    with pytest.raises(AssertionError, match="Non-existent key"):
        cfg.merge_from_list(["OPTIM.LEARNING_RATE", 1.0])


def test_trees_are_not_shared():
    first, second = get_cfg_default(), get_cfg_default()
    first.INPUT.PIXEL_MEAN[0] = 9
    first.TRAINER.MINE = CfgNode({"A": 1})
    assert second.INPUT.PIXEL_MEAN[0] == 0.485 and "MINE" not in second.TRAINER
