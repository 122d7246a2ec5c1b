"""The ordered map of stream ids against a sorted list."""

import bisect
import random

import pytest
from engine.idtree_probe import Probe

MAX = 2**64 - 1


def check(tree, model):
    keys = sorted(model)
    assert len(tree) == len(keys)
    assert tree.ge(0, 0, -1) == keys
    assert tree.le(MAX, MAX, -1) == keys[::-1]
    assert tree.last() == (keys[-1] if keys else None)


@pytest.mark.parametrize("seed", range(6))
def test_random_changes(seed):
    rng = random.Random(seed)
    tree, model = Probe(), {}
    wide = rng.choice([40, 400, 4000])
    phases = [0.9, 0.2, 0.6, 0.05, 0.8, 0.0]

    def some():
        ms = rng.randrange(wide)
        return rng.choice([(ms, 0), (ms, rng.randrange(3)), (MAX, ms), (ms, MAX)])

    for phase in phases:
        for _ in range(2500):
            key = some()
            if rng.random() < phase:
                assert tree.add(*key, 8 + key[0] % 1000) == (key not in model)
                model.setdefault(key, 8 + key[0] % 1000)
            elif model and rng.random() < 0.7:
                key = rng.choice(tuple(model)) if wide < 4000 else next(iter(model))
                assert tree.remove(*key) == model.pop(key)
            else:
                assert tree.remove(*key) == model.pop(key, 0)
            assert tree.find(*key) == model.get(key)
        check(tree, model)
        keys = sorted(model)
        for _ in range(50):
            key = some()
            at = bisect.bisect_left(keys, key)
            assert tree.ge(*key, 40) == keys[at : at + 40]
            at = bisect.bisect_right(keys, key)
            assert tree.le(*key, 40) == keys[:at][::-1][:40]
        if model:
            assert tree.bytes() == tree.used
    while model:
        key, value = model.popitem()
        assert tree.remove(*key) == value
    assert len(tree) == 0 and tree.used == 0 and tree.last() is None


def test_ascending_ids_fill_the_nodes_and_pieces_free_them():
    tree = Probe()
    for ms in range(20000):
        assert tree.add(ms, 1, ms + 1)
    assert tree.used < 20000 * 27
    assert abs(tree.bytes() - tree.used) < tree.used * 0.05
    for ms in range(19000):
        assert tree.remove(ms, 1) == ms + 1
    assert tree.ge(0, 0, 2) == [(19000, 1), (19001, 1)]
    assert tree.used < 1100 * 27
    for _ in range(1000):
        if tree.free(10):
            break
    assert tree.used == 0


def test_a_few_ids_take_little():
    tree = Probe()
    tree.add(1, 1, 1)
    assert tree.used <= 48
    for ms in range(100):
        tree.add(ms, 2, 1)
    for ms in range(100):
        tree.remove(ms, 2)
    assert tree.used <= 120
