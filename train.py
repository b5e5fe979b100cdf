"""Train or evaluate one run: `python train.py --trainer MMLoP`; see experiment/cli.py."""

from experiment.cli import build, main, parse_args, setup_cfg

__all__ = ["build", "main", "parse_args", "setup_cfg"]

if __name__ == "__main__":
    main()
