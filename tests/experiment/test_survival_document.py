"""docs/failures.md: every row names a test that there is, every status is the code's."""

import ast
import re
from pathlib import Path

from experiment import cli, exit_status

ROOT = Path(cli.__file__).parents[1]
PAGE = (ROOT / "docs" / "failures.md").read_text()
ROW = re.compile(r"^\| (.+) \| (.+) \| ?(.*?) ?\| `(.+)` \|$", re.MULTILINE)


def functions_in(path):
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_is_backed_by_a_test():
    table = PAGE.partition("## The table")[2].partition("## ")[0]
    body = [line for line in table.splitlines() if line.startswith("|")][2:]
    rows = ROW.findall(table)
    assert len(rows) == len(body) > 40, "a row without a test"
    for what, _, status, named in rows:
        file, _, test = named.partition("::")
        assert test.startswith("test_") and test in functions_in(ROOT / "tests" / file), what
        assert status in ("", "0", "1", "2", "3", "4", "5", "6", "2 or 3", "signal"), what
    assert len({row[0] for row in rows}) == len(rows)


def test_every_survival_test_is_in_the_table():
    """A promise that is tested is a promise that is written down."""
    backing = {name.partition("::")[2] for *_, name in ROW.findall(PAGE)}
    silent = {"test_the_handlers_are_put_back"}
    silent |= {"test_a_lock_names_the_job_of_its_owner"}
    silent |= {"test_the_names_are_the_engine_s", "test_the_gradient_scaler_goes_on_where_it_was"}
    for path in (ROOT / "tests" / "experiment").glob("test_survival_*.py"):
        if path != Path(__file__):
            tests = {name for name in functions_in(path) if name.startswith("test_")}
            assert tests <= backing | silent, path


def test_the_statuses_are_the_code_s():
    rows = dict(re.findall(r"^\| (\d) \| (.+) \|$", PAGE, re.MULTILINE))
    for status, word in (
        (exit_status.UNEXPECTED, "nobody foresaw"),
        (exit_status.REFUSED, "refused"),
        (exit_status.DIVERGED, "infinite or NaN"),
        (exit_status.STOPPED, "stopped by SIGINT"),
        (exit_status.MACHINE, "the machine"),
        (exit_status.INCOMPLETE, "could not read"),
        (exit_status.NO_GPU, "no GPU"),
    ):
        assert word in rows[str(status)]


def test_the_commands_of_the_long_form_name_files_that_there_are():
    commands = re.findall(r"^SURVIVAL=full .*$", PAGE, re.MULTILINE)
    named = [word for command in commands for word in command.split() if word.endswith(".py")]
    assert len(named) == 6 and all((ROOT / word).exists() for word in named)
