"""Train or evaluate one run: `python train.py --trainer MMLoP`; see experiment/cli.py."""

from experiment.cli import main

if __name__ == "__main__":
    main()
