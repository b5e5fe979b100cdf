"""Provide a trainer engine with the public surface of Dassl.pytorch.

The names, signatures, config keys, log lines and learning rates are those of
https://github.com/KaiyangZhou/Dassl.pytorch (MIT); the code behind them is new.
"""

__version__ = "1.0.0"
