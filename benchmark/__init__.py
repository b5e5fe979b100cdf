"""Run many trainings and evaluations, each a call of `train.py`, and report what they found."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter


def command_line(name: str, about: str, usage: str | None = None) -> ArgumentParser:
    """Return the parser of `python -m NAME`, whose help is the docstring of its module."""
    form = RawDescriptionHelpFormatter
    return ArgumentParser(f"python -m {name}", usage, about, formatter_class=form)
