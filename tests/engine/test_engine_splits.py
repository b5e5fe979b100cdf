"""Nothing is chosen on test images, and no split is named that was not used."""

import os

import pytest
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TrainerX, build_trainer
from dassl.engine.splits import check_validation
from PIL import Image


class Plain(Datum):
    """An image without a file; its path is only a name."""

    def open(self):
        return Image.new("RGB", (12, 16), (80 * self.label, 0, 0))


def paint(count, start):
    return [Plain(str(start + i), i % 3, 0, f"class {i % 3}") for i in range(count)]


SHARED = paint(12, 200)
VALIDATION = {
    "EngineNoVal": None,
    "EngineEmptyVal": [],
    "EngineValIsTest": SHARED,  # ImageNet
    "EngineValHasTest": [*paint(6, 100), SHARED[3]],
}


def register(name, val):
    def init(self, cfg):
        DatasetBase.__init__(self, train_x=paint(30, 0), val=val, test=SHARED)

    DATASET_REGISTRY.register(type(name, (DatasetBase,), {"__init__": init}))


for _name, _val in VALIDATION.items():
    register(_name, _val)


@pytest.mark.parametrize("setting", [("FINAL_MODEL", "best_val"), ("SPLIT", "val")])
@pytest.mark.parametrize("name", VALIDATION)
def test_a_choice_on_test_images_is_refused_before_the_first_step(cfg, name, setting, monkeypatch):
    cfg.DATASET.NAME = name
    cfg.TEST[setting[0]] = setting[1]
    what = "are both" if VALIDATION[name] else "has none"
    monkeypatch.setattr(TrainerX, "run_epoch", lambda _: pytest.fail("it trained"))
    with pytest.raises(ValueError, match=f"TEST.{' '.join(setting)} needs validation.*{what}"):
        build_trainer(cfg).train()


def test_the_last_step_needs_no_validation(cfg, capsys):
    """Upstream takes the test images for any split; here only "test" has them, under its name."""
    cfg.DATASET.NAME, cfg.OPTIM.MAX_EPOCH = "EngineNoVal", 1
    trainer = build_trainer(cfg)
    trainer.train()
    assert capsys.readouterr().out.count("Evaluate on the *test* set") == 1
    with pytest.raises(
        ValueError, match='test\\("val"\\) needs validation images, and EngineNoVal'
    ):
        trainer.test(split="val")
    with pytest.raises(ValueError, match="Unknown split"):
        trainer.test(split="train")


def test_validation_images_of_its_own_are_named_as_such(cfg, capsys):
    cfg.TEST.SPLIT = "val"
    build_trainer(cfg).test()
    out = capsys.readouterr().out
    assert "Evaluate on the *val* set\n=> result\n* total: 6" in out and "*test*" not in out


def test_without_any_test_best_val_asks_for_nothing(cfg):
    cfg.DATASET.NAME = "EngineNoVal"
    cfg.TEST.FINAL_MODEL, cfg.TEST.NO_TEST, cfg.OPTIM.MAX_EPOCH = "best_val", True, 1
    trainer = build_trainer(cfg)
    trainer.train()
    assert not trainer._epoch_end  # no copy for a validation that does not come


def test_an_evaluation_of_the_best_needs_no_validation(cfg):
    """It was chosen where it was trained; the pairs of a table go to its tests too."""
    cfg.DATASET.NAME, cfg.TEST.FINAL_MODEL = "EngineNoVal", "best_val"
    assert build_trainer(cfg).test() >= 0


def test_a_link_to_the_test_images_is_seen_through(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a.png").touch()
    os.symlink(tmp_path / "test", tmp_path / "val")
    parts = {part: [Datum(str(tmp_path / part / "a.png"), 0, 0, "a")] for part in ("test", "val")}
    dataset = DatasetBase(train_x=parts["test"], **parts)
    with pytest.raises(ValueError, match="1 of the 1 of Mine are both .*val/a.png"):
        check_validation(dataset, "Mine", "TEST.SPLIT val")


def test_images_without_a_path_are_not_taken_for_the_same():
    image = Datum("", 0, 0, "a")
    check_validation(DatasetBase(train_x=[image], val=[image], test=[image]), "Mine", "it")
