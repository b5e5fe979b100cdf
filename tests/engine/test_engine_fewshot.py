"""Test few-shot draws and the parts of a data set."""

import random

import pytest
from dassl.data.datasets import DatasetBase, Datum, build_dataset


def images(counts):
    rng = random.Random(5)
    items = [
        Datum(f"{label}/{i}.jpg", label, i % 2, f"c{label}")
        for label, count in enumerate(counts)
        for i in range(count)
    ]
    rng.shuffle(items)
    return items


def plain_draw(source, shots, repeat):
    order = []
    for item in source:
        if item.label not in order:
            order.append(item.label)
    drawn = []
    for label in order:
        group = [item for item in source if item.label == label]
        if len(group) >= shots:
            drawn.extend(random.sample(group, shots))
        elif repeat:
            drawn.extend(random.choices(group, k=shots))
        else:
            drawn.extend(group)
    return drawn


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_draws_equal_a_plain_reference(seed, repeat):
    train, val = images([9, 2, 6, 4]), images([5, 5, 1, 3])
    dataset = DatasetBase(train_x=train, test=val)
    random.seed(seed)
    expected = [plain_draw(train, 4, repeat), plain_draw(val, 4, repeat)]
    after = random.random()
    random.seed(seed)
    drawn = dataset.generate_fewshot_dataset(train, val, num_shots=4, repeat=repeat)
    assert drawn == expected
    assert random.random() == after


def test_no_shots_returns_the_sources():
    train, val = images([3, 3]), images([2, 2])
    dataset = DatasetBase(train_x=train, test=val)
    state = random.getstate()
    assert dataset.generate_fewshot_dataset(train) is train
    assert dataset.generate_fewshot_dataset(train, val, num_shots=0) == (train, val)
    assert random.getstate() == state


def test_attributes_of_a_data_set():
    dataset = DatasetBase(train_x=images([1, 2, 1]), test=images([1]))
    assert dataset.num_classes == 3
    assert dataset.classnames == ["c0", "c1", "c2"]
    assert dataset.lab2cname == {0: "c0", 1: "c1", 2: "c2"}
    assert dataset.val is None and dataset.train_u is None
    domains = dataset.split_dataset_by_domain(images([3]))
    assert {domain: len(items) for domain, items in domains.items()} == {0: 2, 1: 1}


def test_a_subclass_may_have_a_property_of_its_own():
    class Upper(DatasetBase):
        @property
        def classnames(self):
            return [name.upper() for name in super().classnames]

    dataset = Upper(train_x=images([1, 2]), test=images([1]))
    assert dataset.classnames == ["C0", "C1"] and dataset.lab2cname[1] == "c1"
    with pytest.raises(AttributeError):
        dataset.val = []


def test_a_datum_is_read_only_and_not_looked_for():
    item = Datum("/nowhere/a.jpg", 3, 1, "cat")
    with pytest.raises(AttributeError):
        item.label = 4
    with pytest.raises(FileNotFoundError, match="/nowhere/a.jpg.*DATASET.ROOT"):
        item.open()
    with pytest.raises(TypeError, match="impath"):
        Datum(3)


def test_errors_say_what_to_do(cfg):
    with pytest.raises(ValueError, match="two class names, 'a' and 'b'"):
        DatasetBase(train_x=[Datum("", 0, 0, "a"), Datum("", 0, 0, "b")])
    with pytest.raises(ValueError, match="expected training images"):
        DatasetBase(train_x=[])
    cfg.DATASET.NAME = "EngineToyDatas"
    with pytest.raises(ValueError, match="Unknown dataset.*Did you mean 'EngineToyData'"):
        build_dataset(cfg)


def test_domains_are_checked():
    dataset = DatasetBase(train_x=images([1]))
    dataset.domains = ["photo", "sketch"]
    dataset.check_input_domains(["photo"], ["sketch"])
    with pytest.raises(ValueError, match="TARGET_DOMAINS is empty"):
        dataset.check_input_domains(["photo"], [])
    with pytest.raises(ValueError, match="Did you mean 'photo'"):
        dataset.check_input_domains(["foto"], ["sketch"])
