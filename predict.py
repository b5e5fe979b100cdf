"""Classify images: `python predict.py --prompts RUN photos/`; see inference/cli.py."""

import sys

from inference.cli import main

if __name__ == "__main__":
    sys.exit(main())
