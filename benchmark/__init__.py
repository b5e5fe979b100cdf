"""Run many trainings and evaluations, each a call of `train.py`, and report what they found."""
