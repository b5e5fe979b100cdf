"""Make tables, figures, a page and a verdict from what many runs left."""

from benchmark.report.cli import main, report

__all__ = ["main", "report"]
