"""Provide trainers, which build data, model and evaluator, run the epochs and test."""

from .base import TRAINER_REGISTRY, TrainerBase, build_trainer
from .trainer import SimpleTrainer, TrainerX

__all__ = ["TRAINER_REGISTRY", "SimpleTrainer", "TrainerBase", "TrainerX", "build_trainer"]
