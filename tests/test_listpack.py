"""Listpacks against lists of bytes; forged ones are refused."""

from hypothesis import given
from hypothesis import strategies as st

from engine import listpack_probe as probe

TEXT = st.one_of(
    st.binary(max_size=8),
    st.integers(-(2**64), 2**64).map(lambda n: str(n).encode()),
    st.sampled_from([b"", b"0", b"-0", b"01", b"127", b"128", b"-4096", b"4095", b"4096", b"-4097", b"32767",
                     b"-32769", b"8388607", b"8388608", b"-8388609", b"2147483648", b"9223372036854775807",
                     b"9223372036854775808", b"x" * 63, b"x" * 64, b"x" * 125, b"x" * 126, b"x" * 4095,
                     b"x" * 4096, b"x" * 16380, b"x" * 16381, b"x" * 20000]),
)
STEP = st.tuples(st.sampled_from(["append", "prepend", "before", "after", "replace", "delete", "shrink"]),
                 st.integers(-20, 20), TEXT, st.integers(0, 5))


@given(st.lists(STEP, max_size=60))
def test_as_a_list(steps):
    lp, model = probe.Listpack(), []
    for what, index, text, many in steps:
        if what == "append":
            lp.append(text)
            model.append(text)
        elif what == "prepend":
            lp.prepend(text)
            model.insert(0, text)
        elif what == "shrink":
            lp.shrink()
        elif not -len(model) <= index < len(model):
            continue
        elif what == "delete":
            at = index % len(model)
            lp.delete(index, many)
            del model[at:at + many]
        else:
            at = index % len(model)
            assert lp.insert(index, text, ["before", "after", "replace"].index(what))
            if what == "replace":
                model[at] = text
            else:
                model.insert(at + (what == "after"), text)
        assert len(lp) == len(model)
    assert lp.forward() == model
    assert lp.backward() == model[::-1]
    assert probe.valid(bytes(lp))
    for text in set(model):
        assert lp.find(text) == model.index(text)


def test_many_elements_and_memory():
    lp = probe.Listpack()
    for i in range(70000):
        lp.append(b"%d" % (i % 100))
    assert len(lp) == 70000 and probe.valid(bytes(lp))
    lp.delete(0, 69999)
    assert lp.forward() == [b"99"] and lp.used() <= 64
    assert len(lp) == 1


def test_known_bytes():
    lp = probe.Listpack()
    for text in (b"1", b"abc", b"-1", b"300", b"70000"):
        lp.append(text)
    assert bytes(lp) == bytes.fromhex("190000000500 0101 8361626304 dfff02 c12c02 f270110104 ff")


@given(st.lists(TEXT, min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_forged(texts, rng):
    lp = probe.Listpack()
    for text in texts:
        lp.append(text)
    data = bytearray(bytes(lp))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    probe.valid(bytes(data))
    assert not probe.valid(bytes(lp)[:-1])
    assert not probe.valid(bytes(lp) + b"\xff")
    assert not probe.valid(b"")
