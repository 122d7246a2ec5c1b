"""The order structure of sorted sets against a sorted list."""

import bisect
import math
import random

import pytest
from engine.ranktree_probe import Probe

BEFORE_PAIR, BEFORE_SCORE, AFTER_SCORE, BEFORE_LEX, AFTER_LEX = range(5)
SCORES = [0.0, -0.0, math.inf, -math.inf, 1.0, 1.5, -1e300, 5e-324]


def member(generator: random.Random) -> bytes:
    return bytes(generator.choices(b"abc", k=generator.randint(0, 9)))


def same(probe: Probe, model: list) -> None:
    assert probe.check()
    assert len(probe) == len(model)
    assert probe.walk(0, False) == model


@pytest.mark.parametrize("kind", ["random", "equal", "up", "down", "special"])
@pytest.mark.parametrize("seed", [1, 2])
def test_random_changes(kind, seed):
    generator = random.Random(seed)
    probe, model, scores = Probe(), [], {}
    growing = True
    for step in range(15000):
        if len(model) > 4000:
            growing = False
        elif len(model) < 10:
            growing = True
        score = {"random": generator.uniform(-9, 9), "equal": 7.0, "up": float(step), "down": -float(step),
                 "special": generator.choice(SCORES)}[kind]
        name = member(generator) + b"%d" % generator.randrange(4000)
        if generator.random() < (0.8 if growing else 0.2):
            if name not in scores:
                scores[name] = score
                bisect.insort(model, (score, name))
                probe.insert(score, name)
        elif model:
            at = generator.choice([0, len(model) - 1, generator.randrange(len(model))])
            _, name = model.pop(at)
            del scores[name]
            if generator.random() < 0.5:
                assert probe.remove(name)
            else:
                assert probe.remove_at(at) == name
        if step % 1500 == 0:
            same(probe, model)
            for score in [*SCORES, generator.uniform(-9, 9), 7.0, float(step // 2)]:
                name = member(generator)
                assert probe.rank(BEFORE_PAIR, score, name) == bisect.bisect_left(model, (score, name))
                assert probe.rank(BEFORE_SCORE, score, b"") == sum(s < score for s, _ in model)
                assert probe.rank(AFTER_SCORE, score, b"") == sum(s <= score for s, _ in model)
                if kind == "equal":
                    assert probe.rank(BEFORE_LEX, 0, name) == sum(m < name for _, m in model)
                    assert probe.rank(AFTER_LEX, 0, name) == sum(m <= name for _, m in model)
            if model:
                at = generator.randrange(len(model))
                assert probe.walk(at, False) == model[at:]
                assert probe.walk(at, True) == model[at::-1]
    while model:
        assert probe.remove_at(0) == model.pop(0)[1]
    same(probe, model)
    assert probe.tree_bytes == 0


@pytest.mark.parametrize("order, most", [("up", 18.2), ("down", 19.2), ("random", 27.5)])
def test_bytes_for_each_pair(order, most):
    count = 50000
    numbers = list(range(count))
    if order == "down":
        numbers.reverse()
    elif order == "random":
        random.Random(1).shuffle(numbers)
    probe = Probe()
    for number in numbers:
        probe.insert(number, b"%d" % number)
    assert probe.check()
    assert probe.tree_bytes / count < most
    for number in random.Random(2).sample(range(count), count * 9 // 10):
        assert probe.remove(b"%d" % number)
    assert probe.check()
    assert probe.tree_bytes / len(probe) < 60
