"""Training counted in steps: the batches of an epoch, and the learning rate of each step."""

import re
from collections import Counter

import pytest
import torch

from trainers.base import PromptTrainer

STEPS = ("TRAINER.CLIPLORA.EPOCH_STEPS", "3", "DATALOADER.TRAIN_X.BATCH_SIZE", "3")


@pytest.fixture
def seen(monkeypatch):
    """What each step was given: the images and the learning rate."""
    found, update = [], PromptTrainer.update

    def recorded(self, values, gradients):
        found.append((self.optim.param_groups[0]["lr"], self.images))
        return update(self, values, gradients)

    def parse(self, batch):
        self.images = batch["impath"]
        return batch["img"], batch["label"]

    monkeypatch.setattr(PromptTrainer, "update", recorded)
    monkeypatch.setattr(PromptTrainer, "parse_batch_train", parse)
    return found


def test_an_epoch_has_so_many_full_batches_per_shot(run, seen):
    """3 steps, 2 shots: 18 images of 8, each at least twice."""
    results = run("CLIPLoRA", "run", *STEPS, "OPTIM.MAX_EPOCH", "1")
    assert [len(images) for _, images in seen] == [3] * 6
    times = Counter(image for _, images in seen for image in images)
    assert len(times) == 8 and set(times.values()) == {2, 3}
    assert results["epochs"] == 1


def test_the_rate_follows_a_cosine_over_all_steps(run, seen, tmp_path):
    run("CLIPLoRA", "run", *STEPS, "OPTIM.MAX_EPOCH", "2", "OPTIM.LR", "0.003")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.003)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12, eta_min=1e-6)
    expected = []
    for _ in range(12):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert [rate for rate, _ in seen] == pytest.approx(expected)
    log = (tmp_path / "run" / "log.txt").read_text()
    printed = re.findall(r"lr (\S+) eta", log)  # of the last step of each epoch at least
    assert f"{expected[-1]:.4e}" == printed[-1] and f"{expected[5]:.4e}" in printed
