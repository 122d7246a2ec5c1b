"""The two machines of a slot migration against each other, without sockets, data or a clock."""

import pytest

from net.cluster import jobs
from net.cluster.jobs import Export, Import, Job

SOURCE, TARGET, THIRD = "a" * 40, "b" * 40, "c" * 40
SILENCE, TIMEOUT, T0 = 60_000, 5000, 1_000_000


class Pair:
    """A source and a target whose messages are carried by hand."""

    def __init__(self, auth=()):
        self.lines = []
        self.now = T0
        ranges = [(0, 9), (20, 20)]
        self.source = Export(Job("EXPORT", ranges, SOURCE, TARGET, TARGET, T0), auth, self.log)
        self.target = None

    def log(self, text, is_warning):
        self.lines.append((text, is_warning))

    def carry(self):
        """What the source has said, to the target."""
        messages = jobs.Messages()
        messages.pending += b"".join(self.source.out)
        self.source.out.clear()
        while (words := messages.words()) is not None:
            if words[2] == b"ESTABLISH":
                at = words.index(b"SLOTSRANGE")
                numbers = [int(word) for word in words[at + 1:]]
                ranges = list(zip(numbers[::2], numbers[1::2], strict=True))
                name = words[words.index(b"NAME") + 1].decode()
                self.target = Import(Job("IMPORT", ranges, SOURCE, TARGET, SOURCE, self.now, name), self.log)
                self.source.received(b"+OK\r\n", self.now)
            else:
                self.target.message(words[2], self.now)

    def back(self):
        """What the target has said, to the source, a byte at a time."""
        for byte in b"".join(self.target.out):
            self.source.received(bytes([byte]), self.now)
        self.target.out.clear()

    def states(self):
        return self.source.job.state, self.target.job.state

    def to_streaming(self):
        self.source.connected(self.now)
        self.carry()
        assert self.states() == (jobs.WAIT_SNAPSHOT, jobs.WAIT_ACK)
        self.carry()
        assert self.target.job.state == jobs.RECEIVING
        self.source.snapshot_begun(self.now)
        self.source.snapshot_done(self.now)
        self.carry()
        assert self.states() == (jobs.STREAMING, jobs.WAIT_PAUSED)

    def to_paused(self):
        self.to_streaming()
        self.back()
        assert self.source.job.state == jobs.WAIT_PAUSE
        self.source.pausing(0, TIMEOUT, self.now)
        self.source.paused(self.now)

    def to_granted(self):
        self.to_paused()
        self.carry()
        self.back()
        assert self.source.job.state == jobs.GRANTED


@pytest.fixture
def pair():
    return Pair()


def outcome(machine):
    return machine.job.state, machine.job.text


def test_all_goes_well(pair):
    pair.to_granted()
    pair.carry()
    assert pair.states() == (jobs.GRANTED, jobs.GRANTED)
    assert pair.source.holds_writes
    pair.target.taken_over(pair.now)
    pair.source.owned_by(TARGET, pair.now)
    assert pair.states() == (jobs.SUCCESS, jobs.SUCCESS)
    assert not pair.source.holds_writes
    assert pair.target.job.name == pair.source.job.name
    assert pair.target.job.ranges == [(0, 9), (20, 20)]


def test_auth_comes_first():
    pair = Pair((b"user", b"secret"))
    pair.source.connected(pair.now)
    assert pair.source.out == [jobs.command(b"AUTH", b"user", b"secret")]
    pair.source.received(b"+OK", pair.now)
    assert pair.source.job.state == jobs.READ_AUTH
    pair.source.received(b"\r\n", pair.now)
    assert pair.source.job.state == jobs.READ_ESTABLISH


def test_auth_refused():
    pair = Pair((b"secret",))
    pair.source.connected(pair.now)
    pair.source.received(b"-WRONGPASS no\r\n", pair.now)
    assert outcome(pair.source) == (jobs.FAILED, "Failed to AUTH to target node: -WRONGPASS no")


def test_establish_refused(pair):
    pair.source.connected(pair.now)
    pair.source.received(b"-ERR not you\r\n", pair.now)
    assert outcome(pair.source) == (jobs.FAILED, "Received error during handshake to target: -ERR not you")


def test_no_connection(pair):
    pair.source.lost(pair.now, "Connection refused")
    assert outcome(pair.source) == (jobs.FAILED, "Unable to connect to target node: Connection refused")


def test_connection_lost_before_the_grant(pair):
    pair.to_paused()
    pair.source.lost(pair.now)
    pair.target.lost(pair.now)
    assert outcome(pair.source) == (jobs.FAILED, jobs.LOST.format("target"))
    assert not pair.source.holds_writes
    assert pair.target.job.state == jobs.CLEANING
    assert not pair.target.job.in_progress
    pair.target.cleaned(pair.now)
    assert outcome(pair.target) == (jobs.FAILED, jobs.LOST.format("source"))


@pytest.mark.parametrize("word", [b"SNAPSHOT-EOF", b"PAUSED", b"FAILOVER-GRANTED"])
def test_a_message_too_early_for_the_target(pair, word):
    pair.source.connected(pair.now)
    pair.carry()
    pair.target.message(word, pair.now)
    assert outcome(pair.target) == (jobs.CLEANING, jobs.UNEXPECTED)


def test_messages_too_early_for_the_source(pair):
    pair.to_streaming()
    pair.source.received(jobs.message(b"REQUEST-FAILOVER"), pair.now)
    assert outcome(pair.source) == (jobs.FAILED, jobs.UNEXPECTED)


def test_unknown_words(pair):
    pair.to_streaming()
    pair.source.received(jobs.message(b"CAPA"), pair.now)
    assert pair.source.job.state == jobs.STREAMING
    pair.source.received(jobs.message(b"HELLO"), pair.now)
    pair.target.message(b"HELLO", pair.now)
    assert pair.source.job.text == pair.target.job.text == "Unknown SYNCSLOTS subcommand used"


def test_what_is_no_message_ends_it(pair):
    pair.to_streaming()
    pair.source.received(b"+PONG\r\n", pair.now)
    assert outcome(pair.source) == (jobs.FAILED, jobs.LOST.format("target"))


def test_silence(pair):
    pair.to_streaming()
    for machine in (pair.source, pair.target):
        machine.tick(SILENCE, pair.now + SILENCE)
        assert machine.job.in_progress
        machine.tick(SILENCE, pair.now + SILENCE + 1)
        assert machine.job.text == jobs.SILENT


def test_acks_once_a_second(pair):
    pair.to_streaming()
    pair.target.out.clear()
    for machine in (pair.source, pair.target):
        machine.tick(SILENCE, pair.now + jobs.ACK_MS)
        machine.tick(SILENCE, pair.now + jobs.ACK_MS + 1)
        assert machine.out == [jobs.message(b"ACK")]


def test_the_pause_runs_out_before_the_grant(pair):
    pair.to_paused()
    pair.source.tick(SILENCE, pair.now + 2 * TIMEOUT + 1)
    assert outcome(pair.source) == (jobs.FAILED, "Timed out before streaming completed")


def test_a_grant_makes_the_pause_long_enough(pair):
    pair.to_paused()
    pair.now += 2 * TIMEOUT - 1
    pair.carry()
    pair.back()
    assert pair.source.job.state == jobs.GRANTED
    pair.source.tick(SILENCE, pair.now + jobs.GRANT_MS)
    assert not pair.source.in_doubt


def test_others_take_the_slots(pair):
    pair.to_streaming()
    pair.source.owned_by(SOURCE, pair.now)
    pair.target.owned_by(SOURCE, pair.now)
    assert pair.source.job.in_progress
    assert pair.target.job.in_progress
    pair.source.owned_by(THIRD, pair.now)
    pair.target.owned_by(None, pair.now)
    assert outcome(pair.source) == (jobs.FAILED, "Slots are no longer owned by myself")
    assert outcome(pair.target) == (jobs.CLEANING, "Slots are no longer owned by source node")


def test_cancel(pair):
    pair.to_paused()
    pair.source.cancel(pair.now)
    assert outcome(pair.source) == (jobs.CANCELLED, "")
    assert not pair.source.holds_writes


@pytest.mark.parametrize("how", ["timeout", "lost", "cancel"])
def test_after_the_grant_writers_wait_until_it_is_known(pair, how):
    pair.to_granted()
    if how == "timeout":
        pair.now += 2 * TIMEOUT + 1
        pair.source.tick(SILENCE, pair.now)
    elif how == "lost":
        pair.source.lost(pair.now)
    else:
        pair.source.cancel(pair.now)
    assert pair.source.in_doubt
    assert pair.source.holds_writes
    assert pair.source.job.state == jobs.GRANTED
    pair.source.tick(SILENCE, pair.now + 1_000_000)
    pair.source.round_over(pair.now)
    assert pair.source.holds_writes
    pair.source.round_over(pair.now)
    assert pair.source.job.state == (jobs.CANCELLED if how == "cancel" else jobs.FAILED)
    assert not pair.source.holds_writes


def test_in_doubt_and_it_has_taken_over(pair):
    pair.to_granted()
    pair.source.lost(pair.now)
    pair.source.round_over(pair.now)
    pair.source.owned_by(TARGET, pair.now)
    assert outcome(pair.source) == (jobs.SUCCESS, "")
    assert not pair.source.holds_writes


def test_a_dead_target_is_fenced(pair):
    pair.to_granted()
    pair.source.lost(pair.now)
    pair.source.fenced(pair.now)
    assert outcome(pair.source) == (jobs.FAILED, jobs.LOST.format("target"))
    assert not pair.source.holds_writes


def test_nothing_changes_what_is_over(pair):
    pair.to_granted()
    pair.source.owned_by(TARGET, pair.now)
    pair.source.lost(pair.now)
    pair.source.owned_by(THIRD, pair.now)
    pair.source.tick(SILENCE, pair.now + 1_000_000)
    assert outcome(pair.source) == (jobs.SUCCESS, "")


@pytest.mark.parametrize("data", [b"*1000\r\n", b"*1\r\n$99999\r\n", b"*x\r\n", b"*1\r\n+a\r\n", b"*" + b"1" * 20000])
def test_messages_that_are_none(data):
    messages = jobs.Messages()
    messages.pending += data
    with pytest.raises(jobs.ProtocolError):
        messages.words()


def test_a_target_that_syncs_first():
    """It asks for the pause when what has come is on its disk, and not before."""
    target = Import(Job("IMPORT", [(0, 9)], SOURCE, TARGET, SOURCE, T0, "d" * 40), lambda *_: None, True)
    target.message(b"ACK", T0)
    target.message(b"SNAPSHOT-EOF", T0)
    assert target.job.state == jobs.WAIT_PAUSED
    assert target.wants_sync
    assert target.out == []
    target.synced()
    assert target.out == [jobs.message(b"REQUEST-PAUSE")]
    assert not target.wants_sync
    target.synced()
    assert len(target.out) == 1
