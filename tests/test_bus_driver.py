"""nodes.conf is written without the driver's lock, and nothing is told to anybody before it is written."""

import threading
from random import Random
from types import SimpleNamespace

import pytest

from net.cluster.bus import Bus, Settings
from net.cluster.driver import BusLock, Driver, now_ms
from net.cluster.nodes import T_FSYNC, T_SAVE, ClusterState

WAIT_S = 20


class SlowFile:
    """A disk that takes its time."""

    def __init__(self):
        self.texts = []
        self.begun, self.may_end = threading.Event(), threading.Event()

    def save(self, text, fsync, _now):
        self.begun.set()
        assert self.may_end.wait(WAIT_S)
        self.texts.append((text, fsync))
        return ""


@pytest.fixture
def driver():
    """A driver of a bus without sockets."""
    found = Driver.__new__(Driver)
    state = ClusterState(Random(1), 1000)
    state.create_myself(1000)
    found.bus = Bus(state, Settings(), Random(2), lambda *_: None)
    while state.todo:                                    # what every new state is to do
        found.bus.before_sleep(now_ms())
    found.bus.take_actions()
    found.lock, found.file_lock, found.unsaved = BusLock(found._write_out), threading.Lock(), None
    found.file, found.loop, found.told = SlowFile(), None, []
    found.tell_router = lambda: found.told.append(len(found.file.texts))
    found.config = SimpleNamespace()
    return found


def change(driver, epoch):
    with driver.working() as bus:
        bus.state.current_epoch = epoch
        bus.todo(T_SAVE | T_FSYNC)
    driver.told.append(f"changed {epoch}")


def look(driver):
    with driver.working():
        pass
    driver.told.append("looked")


def test_a_disk_that_takes_its_time(driver):
    first = threading.Thread(target=change, args=(driver, 7))
    first.start()
    assert driver.file.begun.wait(WAIT_S)
    assert driver.lock.inner.acquire(timeout=WAIT_S)     # who only looks does not wait
    driver.lock.inner.release()
    others = [threading.Thread(target=look, args=(driver,)), threading.Thread(target=change, args=(driver, 8))]
    for thread in others:
        thread.start()
        thread.join(0.1)
    assert driver.told == []                             # neither the router nor who has asked
    driver.file.may_end.set()
    for thread in (first, *others):
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert [fsync for _, fsync in driver.file.texts] == [True] * len(driver.file.texts)
    assert "currentEpoch 8 " in driver.file.texts[-1][0]
    assert driver.told[0] in (1, 2)                      # the router first, after the disk
    assert sorted(word for word in driver.told if isinstance(word, str)) == ["changed 7", "changed 8", "looked"]
    assert driver.unsaved is None


def test_nothing_to_be_saved(driver):
    look(driver)
    assert driver.file.texts == []
    assert driver.told == [0, "looked"]


def test_the_outermost_lets_go():
    written = []
    lock = BusLock(lambda: written.append(lock.depth))
    with lock:
        with lock:
            lock.is_due = True
        assert written == []
    assert written == [0]
