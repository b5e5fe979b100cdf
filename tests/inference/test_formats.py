import csv
import io
import json
import sys
from pathlib import Path

import pytest

from inference.formats import check_format, rows, write
from prompting import Prediction

ONE = [
    Prediction(Path("a/1.png"), ("cat",), (0.123456789,)),
    Prediction(Path("a/broken.png"), error="cannot identify"),
    Prediction(Path('a/"2", b.png'), ("dog, brown",), (1.0,)),
]
TWO = [Prediction(Path("1.png"), ("cat", "dog"), (0.75, 0.25))]


def test_columns_are_named_as_by_timm():
    assert rows(ONE)[0] == {"filename": "a/1.png", "label": "cat", "prob": 0.123456789}
    assert list(rows(TWO)[0]) == ["filename", "label_0", "prob_0", "label_1", "prob_1"]


def test_csv_is_read_back_in_full():
    found = list(csv.DictReader(io.StringIO(write(ONE, "csv").decode())))
    assert [row["filename"] for row in found] == ["a/1.png", 'a/"2", b.png']
    assert found[1]["label"] == "dog, brown" and float(found[0]["prob"]) == 0.123456789


def test_json_is_read_back_in_full():
    assert json.loads(write(TWO, "json")) == rows(TWO)
    assert "é" in write([Prediction(Path("é.png"), ("é",), (1.0,))], "json").decode()


def test_the_table_is_for_the_eye():
    lines = write(ONE, "table").decode().splitlines()
    assert lines[0].split() == ["filename", "label", "prob"] and len(lines) == 4
    assert lines[2].split() == ["a/1.png", "cat", "0.1235"]


def test_names_that_look_like_numbers_stay_as_they_are():
    found = [Prediction(Path(name), (name,), (0.5,)) for name in ("1e5", "007", "2.50")]
    lines = write(found, "table").decode().splitlines()[2:]
    assert [line.split() for line in lines] == [[p.filename, *p.labels, "0.5000"] for p in found]


@pytest.mark.parametrize("style", ["table", "csv", "json"])
def test_nothing_read_is_an_empty_result(style):
    expected = {"table": "\n", "csv": "filename\n", "json": "[]\n"}[style]
    assert write([ONE[1]], style).decode() == expected


def test_parquet_is_read_back_in_full():
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install pyarrow")
    check_format("parquet")
    assert parquet.read_table(io.BytesIO(write(TWO, "parquet"))).to_pylist() == rows(TWO)


def test_without_pyarrow_parquet_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match="not installed: pip install pyarrow."):
        check_format("parquet")
