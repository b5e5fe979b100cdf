"""Test registry, logger, meters, files and seeds."""

import json
import logging
import random
import re
import socket
import sys
import threading

import numpy as np
import pytest
import torch
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    Registry,
    atomic_write,
    check_isfile,
    count_num_param,
    download_url,
    listdir_nohidden,
    read_image,
    read_json,
    set_random_seed,
    setup_logger,
    tolist_if_not,
    write_json,
)
from PIL import Image


def test_registry():
    table = Registry("PET")

    @table.register()
    class Cat:
        pass

    assert table.get("Cat") is Cat and "Cat" in table and table.registered_names() == ["Cat"]
    with pytest.raises(KeyError, match=r"Unknown PET entry 'Cats'.*\['Cat'\].*mean 'Cat'\?"):
        table.get("Cats")
    with pytest.raises(KeyError, match="'Cat' is already registered in PET.*force=True"):
        table.register(Cat)
    other = type("Cat", (), {})
    table.register(other, force=True)
    assert table.get("Cat") is other
    with pytest.raises(KeyError, match="Import the module that registers it"):
        Registry("EMPTY").get("x")


def test_logger_writes_to_console_and_file(tmp_path, capsys):
    stdout = sys.stdout
    logger = setup_logger(tmp_path)
    assert logger is logging.getLogger("dassl") and sys.stdout is stdout
    logger.info("one")
    logger.debug("hidden")
    assert capsys.readouterr().out == "one\n"
    assert (tmp_path / "log.txt").read_text() == "one\n"

    setup_logger(str(tmp_path)).info("two")
    assert (tmp_path / "log.txt").read_text() == "one\n"
    (second,) = tmp_path.glob("log.txt-*")
    assert re.fullmatch(r"log\.txt-\d{4}(-\d\d){5}", second.name)
    assert second.read_text() == "two\n"
    assert len(logger.handlers) == 2

    setup_logger(tmp_path / "sub" / "train.log").info("three")
    assert (tmp_path / "sub" / "train.log").read_text() == "three\n"
    setup_logger(None).info("four")
    assert len(logger.handlers) == 1
    assert capsys.readouterr().out == "two\nthree\nfour\n"


def test_meters():
    meter = AverageMeter()
    meter.update(1.0, n=3)
    meter.update(torch.tensor(5.0))
    assert (meter.val, meter.avg, meter.count) == (5.0, 2.0, 4)
    ema = AverageMeter(ema=True)
    ema.update(10.0)
    assert ema.avg == pytest.approx(1.0)
    metrics = MetricMeter()
    metrics.update({"loss": 1.0, "acc": 50})
    metrics.update({"loss": torch.tensor(2.0), "acc": 100})
    metrics.update(None)
    assert str(metrics) == "loss 2.0000 (1.5000) acc 100.0000 (75.0000)"
    with pytest.raises(TypeError, match="dict of name -> number, got float"):
        metrics.update(0.5)


def test_seed_sets_every_generator():
    set_random_seed(7)
    drawn = random.random(), np.random.rand(), torch.rand(1).item()
    expected = (
        random.Random(7).random(),
        np.random.RandomState(7).rand(),
        torch.rand(1, generator=torch.Generator().manual_seed(7)).item(),
    )
    assert drawn == expected


def test_json_is_whole_or_as_before(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json({"a": [1, 2.5]}, path)
    assert read_json(path) == {"a": [1, 2.5]}
    assert path.read_text() == json.dumps({"a": [1, 2.5]}, indent=4)
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert read_json(path) == {"a": [1, 2.5]}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
    for content in (b"{", b'{"a": "caf\xe9"}', b"[" * 100000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="a.json is not valid JSON"):
            read_json(path)
    path.write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(path) == {"a": 1}


def test_images(tmp_path):
    path = tmp_path / "a.jpg"
    Image.effect_noise((64, 64), 50).save(path)
    assert (read_image(path).mode, read_image(path).size) == ("RGB", (64, 64))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(OSError, match="Cannot read the image .*a.jpg.*download it again"):
        read_image(path)
    path.write_bytes(b"<html>")
    with pytest.raises(OSError, match="Cannot read the image .*a.jpg"):
        read_image(path)
    with pytest.raises(FileNotFoundError, match="No image at .*b.jpg"):
        read_image(tmp_path / "b.jpg")


def test_a_download_that_ends_early_leaves_no_file(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 300)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file"
        with pytest.raises(OSError, match="ended after 300 of 1000 bytes"):
            download_url(url, tmp_path / "file")
        thread.join()
    assert not list(tmp_path.iterdir())


def test_small_helpers(tmp_path):
    for name in ("b", ".hidden", "a"):
        (tmp_path / name).touch()
    assert listdir_nohidden(tmp_path, sort=True) == ["a", "b"]
    assert check_isfile(tmp_path / "a")
    with pytest.warns(UserWarning, match="No file found"):
        assert not check_isfile(tmp_path / "c")
    assert tolist_if_not("x") == ["x"] and tolist_if_not(["x"]) == ["x"]
    layer = torch.nn.Linear(3, 2)
    assert count_num_param(layer) == 8
    assert count_num_param(params=[{"params": [layer.weight]}, layer.bias]) == 8
    with pytest.raises(ValueError, match="got neither"):
        count_num_param()
    with pytest.raises(ValueError, match="http or https"):
        download_url("file:///etc/passwd", tmp_path / "d")
