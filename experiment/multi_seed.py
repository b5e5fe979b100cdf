"""Several seeds of one training, stepped together in one process.

A batch of 4 leaves most of a GPU idle, and three of them take it little longer than one. The seeds
share what is frozen. What they train is stacked, and one pass over all their batches gives all
their losses; since no loss depends on what another seed trains, the gradient of the losses' sum
holds the gradient of each. Everything else is each seed's own: order of images, augmentations,
optimiser, checkpoints, log, results. So a run comes out as it would alone, up to rounding, and can
be resumed alone from any of its checkpoints.

Letters: S seeds, B images.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from dassl.engine import TRAINER_REGISTRY
from dassl.utils.logger import own_handlers
from dassl.utils.tools import get_rng_state, set_rng_state
from torch import Tensor, nn
from torch.func import functional_call, vmap
from yacs.config import CfgNode

from experiment.config import flatten
from experiment.stacked_operations import StackedOperations
from prompting.cuda_graph import CUDAGraphStep
from trainers.base import Gradients, PromptTrainer

OWN = ("SEED", "OUTPUT_DIR", "RESUME")  # the keys in which the runs may differ
STEP = ("forward_backward", "compute", "gradients")  # done for all of them at once


def is_multi_seed(trainer: str) -> bool:
    """Return whether seeds of a method can be stepped together: it follows one sum's gradient."""
    method = TRAINER_REGISTRY.get(trainer)
    if not issubclass(method, PromptTrainer) or not method.requires_training:
        return False
    return method.pure_step and all(
        getattr(method, name) is getattr(PromptTrainer, name) for name in STEP
    )


def check_multi_seed(cfgs: Sequence[CfgNode]) -> None:
    """Refuse configurations whose runs cannot be stepped together.

    Raises:
        ValueError: the key in which they differ.
    """
    name = cfgs[0].TRAINER.NAME
    if not is_multi_seed(name):
        raise ValueError(
            f"Seeds of {name} cannot be stepped together, since it does not simply follow the "
            "gradient of its loss: train them separately."
        )
    runs = [flatten(cfg) for cfg in cfgs]
    for key in runs[0]:
        values = [run[key] for run in runs]
        if key not in OWN and any(value != values[0] for value in values):
            raise ValueError(
                f"Runs that are stepped together differ in nothing but their seeds; these have "
                f"{key} {', '.join(map(str, values))}: train them separately."
            )


class Member:
    """One of the runs, with its own of what a process has but one of.

    Attributes:
        trainer: built by the caller, within `at_work`.
    """

    def __init__(self) -> None:
        self.trainer: PromptTrainer | None = None
        self._handlers: list[logging.Handler] = []
        self._random_state: dict | None = None

    @contextmanager
    def at_work(self, steps: bool = False) -> Iterator[None]:
        """Let random state and log be this run's.

        Args:
            steps: there is only a step to finish. Where that neither draws numbers nor saves the
                random state, the state is not swapped, because that is slow.
        """
        swaps = not (steps and self._only_steps())
        if swaps and self._random_state is not None:
            set_rng_state(self._random_state)
        try:
            with own_handlers(self._handlers):
                yield
        finally:
            if swaps:
                self._random_state = get_rng_state()

    def _only_steps(self) -> bool:
        """Return whether the next step is within an epoch, of images that workers augment."""
        trainer = self.trainer
        if trainer.stop_requested or trainer.cfg.TRAIN.CHECKPOINT_STEPS > 0:
            return False
        within_epoch = trainer.batch_idx + 1 < trainer.num_batches
        return within_epoch and trainer.train_loader_x.num_workers > 0

    def close(self) -> None:
        """Close the log."""
        for handler in self._handlers:
            with suppress(OSError):  # its last line did not fit on the disk
                handler.close()


class _Losses(nn.Module):
    """A trainer's loss and values, as a function of its prompt learner's parameters."""

    def __init__(self, trainer: PromptTrainer) -> None:
        super().__init__()
        self.prompt_learner = trainer.model.prompt_learner
        self._trainer = trainer

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        terms, logits = self._trainer.loss_terms(images, labels)
        return sum(terms.values()), self._trainer.values(terms, logits, labels)


class MultiSeed:
    """Trains its members in step; see `check_multi_seed` for what they have in common.

    A stop that is asked for reaches all of them at the same step.

    Raises:
        ValueError: members with different classes or numbers of images.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        self.trainers = [member.trainer for member in members]
        self.seeds = [trainer.cfg.SEED for trainer in self.trainers]
        self.stop_requested = False
        self._evaluating = False
        self._losses = _Losses(self.trainers[0])
        self._graph = CUDAGraphStep(self.trainers[0].cfg.TRAIN.CUDA_GRAPH)
        self._check_data()
        for trainer in self.trainers:
            trainer.seeds, trainer._graph = self.seeds, self._graph

    def _check_data(self) -> None:
        datasets = [trainer.dm.dataset for trainer in self.trainers]
        for what, found in (
            ("numbers of training images", [len(dataset.train_x) for dataset in datasets]),
            ("classes", [list(dataset.classnames) for dataset in datasets]),
        ):
            if any(each != found[0] for each in found):
                raise ValueError(
                    f"{self._names()} have different {what} ({', '.join(map(str, found))}), and "
                    "cannot be stepped together: train them separately."
                )

    def _names(self) -> str:
        return f"Seeds {', '.join(map(str, self.seeds))}"

    def request_stop(self) -> None:
        """Ask to stop: all members finish the step and save, then `KeyboardInterrupt`.

        A validation between epochs is finished, or they would not save at the same step. The final
        evaluation is left at once. May be called from a signal handler.
        """
        self.stop_requested = True
        if self._evaluating:
            self._stop_members()

    def _stop_members(self) -> None:
        for trainer in self.trainers:
            trainer.request_stop()

    def train(self) -> None:
        """Train and evaluate all members.

        Raises:
            ValueError: they resume from different steps.
            KeyboardInterrupt: a stop was asked for; all have saved at the same step.
            FloatingPointError: a seed's loss is infinite or NaN; the others have saved this step.
        """
        runs = [_training(trainer) for trainer in self.trainers]
        batches = self._advance(runs, [None for _ in runs])
        self._check_steps()
        while batches:
            images, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
            computed = self.split(*self.step(images, labels))
            batches = self._advance(runs, computed)
        self._evaluate()

    def step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Gradients]:
        """Call `compute`, on a GPU by a CUDA graph."""
        return self._graph(self.compute, images, labels)

    def compute(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Gradients]:
        """`PromptTrainer.compute` for all seeds at once.

        Args:
            images: (S, B, 3, H, W).
            labels: (S, B).

        Returns:
            The values of the log, a row per seed, and the gradients of `trainable_params`, each
            (S, ...).
        """
        params = zip(*(trainer.trainable_params for trainer in self.trainers), strict=True)
        names = [n for n, p in self._losses.named_parameters() if p.requires_grad]
        stacks = [torch.stack([p.detach() for p in seeds]).requires_grad_() for seeds in params]

        def losses(parameters: dict[str, Tensor], images: Tensor, labels: Tensor):
            return functional_call(self._losses, parameters, (images, labels))

        parameters = dict(zip(names, stacks, strict=True))
        with StackedOperations():
            loss, values = vmap(losses)(parameters, images, labels)
        scaled = [t.scale_loss(own) for t, own in zip(self.trainers, loss.unbind(), strict=True)]
        return values, torch.autograd.grad(sum(scaled), stacks, allow_unused=True)

    def split(self, values: Tensor, gradients: Gradients) -> list[tuple[Tensor, Gradients]]:
        """Split what `compute` returned by seed; the values come on the CPU."""
        names = self.trainers[0].value_names
        rows = values.cpu()
        if not rows[:, names.index("loss")].isfinite().all():
            self._stop_members()  # its own update says which it is; the others save
        for trainer in self.trainers:
            trainer.value_names = names
        return [
            (row, [None if gradient is None else gradient[seed] for gradient in gradients])
            for seed, row in enumerate(rows)
        ]

    def _advance(self, runs: Sequence[Iterator], computed: Sequence) -> list[tuple]:
        """Do each member's own part of a step; return the next batches, none at the end."""
        if self.stop_requested:
            self._stop_members()
        batches, errors = [], []
        for member, run, own in zip(self.members, runs, computed, strict=True):
            with member.at_work(steps=own is not None):
                try:
                    batches.append(run.send(own))
                except StopIteration:
                    pass
                except (Exception, KeyboardInterrupt) as error:
                    errors.append((error, member.trainer.cfg.SEED))
                    self._stop_members()  # what the next ones can save, they do
        # A stop is the least of what went wrong.
        for error, seed in sorted(errors, key=lambda e: isinstance(e[0], KeyboardInterrupt)):
            if isinstance(error, FloatingPointError):
                raise FloatingPointError(f"Seed {seed}: {error}") from error
            raise error
        return batches

    def _check_steps(self) -> None:
        steps = [(trainer.start_epoch, trainer.batches_done) for trainer in self.trainers]
        if any(step != steps[0] for step in steps):
            steps_of = (f"{epochs} epochs and {batches} batches" for epochs, batches in steps)
            raise ValueError(
                f"{self._names()} resume from different steps ({'; '.join(steps_of)}), and cannot "
                "be stepped together: resume them separately."
            )

    def _evaluate(self) -> None:
        """Evaluate the members, one after the other."""
        self._evaluating, ended = True, time.monotonic()
        if self.stop_requested:
            self._stop_members()
        for member in self.members:
            member.trainer.leave_out(time.monotonic() - ended)
            with member.at_work():
                member.trainer.after_train()


def _training(trainer: PromptTrainer) -> Iterator[tuple[Tensor, Tensor]]:
    """Train up to the evaluation, where another computes the steps.

    Yields images and labels, and is sent what `PromptTrainer.compute` would return for them.
    """
    trainer.before_train()
    for epoch in range(trainer.start_epoch, trainer.max_epoch):
        trainer.epoch = epoch
        trainer.before_epoch()
        for batch in trainer.batches():
            computed = yield trainer.parse_batch_train(batch)
            trainer.end_step(trainer.update(*computed))
        trainer.after_epoch()
