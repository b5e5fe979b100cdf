"""Training that is counted in steps: epochs of so many steps per shot, a cosine over all steps."""

import math

from torch import Tensor
from yacs.config import CfgNode

from trainers.base import Gradients, PromptTrainer


class StepSchedule(PromptTrainer):
    """Train for a number of steps, whatever the number of classes.

    An epoch has `EPOCH_STEPS` steps per shot of full batches, going through the images in one
    random order after another; with 0, or without a number of shots, it has each image once.
    """

    final_lr = 1e-6

    def check_cfg(self, cfg: CfgNode) -> None:
        if cfg.OPTIM.LR_SCHEDULER != "cosine" or cfg.OPTIM.WARMUP_EPOCH > 0:
            raise ValueError(
                f"{cfg.TRAINER.NAME} trains with a cosine over all steps and no warm-up: set "
                'OPTIM.LR_SCHEDULER "cosine" and OPTIM.WARMUP_EPOCH 0.'
            )
        counted = cfg.TRAINER[self.node].get("EPOCH_STEPS", 0)
        if counted and cfg.DATALOADER.TRAIN_X.SAMPLER != "RandomSampler":
            raise ValueError(
                f"TRAINER.{self.node}.EPOCH_STEPS counts steps in random order: set "
                "DATALOADER.TRAIN_X.SAMPLER RandomSampler."
            )

    def build_data_loader(self) -> None:
        super().build_data_loader()
        steps = self.options.get("EPOCH_STEPS", 0) * max(self.cfg.DATASET.NUM_SHOTS, 0)
        if steps:
            self.train_loader_x.sampler.draw(steps * self.train_loader_x.batch_size)

    def update(self, values: Tensor, gradients: Gradients) -> dict[str, float]:
        for group in self.optim.param_groups:
            group["lr"] = self.learning_rate()
        return super().update(values, gradients)

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Keep the rate, which is that of the step."""

    def learning_rate(self) -> float:
        """Return the rate of this step: half a cosine from OPTIM.LR to `final_lr`."""
        first, steps = self.epochs_of_schedule()
        done = (self.epoch - first) * self.num_batches + self.batch_idx
        height = 0.5 + 0.5 * math.cos(math.pi * done / (steps * self.num_batches))
        return self.final_lr + (self.cfg.OPTIM.LR - self.final_lr) * height

    def epochs_of_schedule(self) -> tuple[int, int]:
        """Return the first epoch of the current cosine, and how many it has."""
        return 0, self.max_epoch
