"""Provide a rendered data set of three colours, a linear trainer, and a config of both."""

import random

import numpy as np
import pytest
import torch
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import setup_logger
from PIL import Image
from torch import nn
from torch.nn import functional as F

COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


class Painted(Datum):
    """Render an image without a file: the colour of its class, with its own noise."""

    def open(self):
        noise = np.random.default_rng(int(self.impath)).integers(0, 50, (12, 16, 3))
        return Image.fromarray((np.array(COLOURS[self.label]) + noise).astype(np.uint8))


def paint(count, start):
    names = ("red", "green", "blue")
    return [Painted(str(start + i), i % 3, 0, names[i % 3]) for i in range(count)]


@DATASET_REGISTRY.register()
class EngineToyData(DatasetBase):
    def __init__(self, cfg):
        train = self.generate_fewshot_dataset(paint(30, 0), num_shots=cfg.DATASET.NUM_SHOTS)
        super().__init__(train_x=train, val=paint(6, 100), test=paint(12, 200))


@TRAINER_REGISTRY.register()
class EngineToyTrainer(TrainerX):
    def build_model(self):
        self.model = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(192, self.num_classes))
        self.model.to(self.device)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("linear", self.model, self.optim, self.sched)
        self.rates = []

    def before_epoch(self):
        self.rates.append(self.get_current_lr())

    def forward_backward(self, batch):
        image, label, _ = self.parse_batch_train(batch)
        # Draws of all three generators, so that a resume has to bring back all of them.
        image = image * (1 + 0.01 * random.random() + 0.01 * np.random.rand())
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    cfg.USE_CUDA = False
    cfg.DATASET.NAME = "EngineToyData"
    cfg.TRAINER.NAME = "EngineToyTrainer"
    cfg.INPUT.SIZE = (8, 8)
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 8
    cfg.OPTIM.NAME = "sgd"
    cfg.OPTIM.LR = 0.002
    cfg.OPTIM.LR_SCHEDULER = "cosine"
    cfg.OPTIM.MAX_EPOCH = 6
    cfg.OPTIM.WARMUP_EPOCH = 2
    cfg.OPTIM.WARMUP_TYPE = "constant"
    return cfg


@pytest.fixture(autouse=True)
def _clean_state():
    torch.set_num_threads(1)
    setup_logger(None)
    yield
    setup_logger(None)
