"""A network that is not there, for the real bus code: virtual time, links with a latency, machines that die.

`Network` runs many net.cluster.bus.Bus in one process. Events are (time in ms, function, arguments) in a heap; after
each call of a bus its decisions are carried out here. A node that syncs its file does nothing else meanwhile. Nothing
depends on the wall clock, so a seed repeats a run.
"""

import heapq
from random import Random

from net.cluster.bus import VERBOSE, WARNING, Bus, Link, Settings
from net.cluster.decisions import Close, Deliver, Dial, Save
from net.cluster.nodes import ClusterState

CRON_MS = 100
START_MS = 1_700_000_000_000
PORT = 6379
BUS_PORT = 16379


class VirtualLink(Link):
    """A link whose transport is the other side's link."""

    __slots__ = ("machine",)

    def queued_bytes(self) -> int:
        """The network takes all at once."""
        return 0


class Machine:
    """A node and what the world did with its decisions."""

    def __init__(self, network: "Network", number: int, **settings: object):
        self.network = network
        self.number = number
        self.ip = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        rng = Random(network.rng.getrandbits(64))
        state = ClusterState(rng, network.now_ms, network.maps)
        state.create_myself(network.now_ms)
        self.logs: list[tuple[float, int, str]] = []
        self.bus = Bus(state, Settings(port=PORT, cport=BUS_PORT, **settings), rng, self.log)
        self.bus.level = network.log_level
        self.bus.link_class = VirtualLink
        self.alive = True
        self.saves: list[bool] = []
        self.delivered: list[Deliver] = []
        self.busy_until = 0.0                   # it waits for its disk
        self.other: list[object] = []           # decisions that nobody here carries out

    def log(self, level: int, text: str) -> None:
        """Keeps a line, where the network wants them."""
        if self.network.keeps_logs:
            self.logs.append((self.network.now, level, text))

    def settle(self) -> None:
        """What is left to do after a call of the bus."""
        bus = self.bus
        if bus.state.todo:
            bus.before_sleep(self.network.now_ms)
        if bus.actions:
            for action in bus.take_actions():
                self._act(action)
        if bus.dirty:
            self._send()

    def _send(self) -> None:
        network = self.network
        when = max(network.now, self.busy_until) + network.latency_ms
        for link, packets in self.bus.take_output():
            pair = link.transport
            if pair is not None and pair.machine.alive:
                receive = pair.machine.receive
                for packet in packets:
                    network.count += 1
                    heapq.heappush(network.events, (when, network.count, receive, (pair, packet)))

    def _act(self, action: object) -> None:
        network = self.network
        if isinstance(action, Save):
            self.saves.append(action.fsync)
            if action.fsync:
                self.busy_until = max(network.now, self.busy_until) + network.sync_ms
        elif isinstance(action, Dial):
            network.later(network.latency_ms, network.arrive, self, action)
        elif isinstance(action, Close):
            self._hang_up(action.link)
        elif isinstance(action, Deliver):
            self.delivered.append(action)
        else:
            self.other.append(action)

    def _hang_up(self, link: Link) -> None:
        pair, link.transport = link.transport, None
        if pair is not None:
            self.network.later(self.network.latency_ms, pair.machine.lose, pair)

    def receive(self, link: Link, packet: bytes) -> None:
        """A packet has come."""
        if self.busy_until > self.network.now:
            self.network.later(self.busy_until - self.network.now, self.receive, link, packet)
        elif self.alive and link.is_open:
            self.bus.received(link, packet, self.network.now_ms)
            self.settle()

    def lose(self, link: Link) -> None:
        """The other side has closed."""
        if self.alive and link.is_open:
            link.transport = None
            self.bus.closed(link, self.network.now_ms)
            self.settle()

    def reached(self, link: VirtualLink, peer_link: VirtualLink) -> None:
        """A dialled link is there."""
        if self.alive and link.is_open:
            link.transport = peer_link
            self.bus.connected(link, self.ip, peer_link.machine.ip, self.network.now_ms)
            self.settle()

    def tick(self) -> None:
        """The cron, and the next one."""
        if self.alive:
            self.bus.cron(self.network.now_ms)
            self.settle()
            self.network.later(CRON_MS, self.tick)

    def meet(self, other: "Machine") -> None:
        """CLUSTER MEET."""
        self.bus.start_handshake(other.ip, PORT, BUS_PORT)
        self.settle()

    def call(self, name: str, *args: object) -> object:
        """A call of the bus from outside, as a command makes it."""
        self.bus.now = self.network.now_ms
        found = getattr(self.bus, name)(*args)
        self.settle()
        return found


class Network:
    """Machines and the time."""

    def __init__(self, seed: int = 1, latency_ms: float = 0.5, keeps_logs: bool = False, sync_ms: float = 0.0):
        self.rng = Random(seed)
        self.latency_ms = latency_ms
        self.sync_ms = sync_ms                    # how long it takes until nodes.conf is on a disk
        self.keeps_logs = keeps_logs
        self.now = float(START_MS)
        self.now_ms = START_MS                    # the time as the bus has it
        self.events: list[tuple] = []
        self.count = 0
        self.maps: dict[bytes, bytes] = {}
        self.machines: list[Machine] = []
        self.by_ip: dict[str, Machine] = {}
        self.cut: set[tuple[int, int]] = set()    # pairs of machines between which nothing passes

    def add(self, **settings: object) -> Machine:
        """One more node, alone."""
        machine = Machine(self, len(self.machines) + 1, **settings)
        self.machines.append(machine)
        self.by_ip[machine.ip] = machine
        self.later(self.rng.random() * CRON_MS, machine.tick)
        return machine

    def log_level(self) -> int:
        """The least level of lines that are kept."""
        return VERBOSE if self.keeps_logs else WARNING + 1

    def later(self, delay_ms: float, function: object, *args: object) -> None:
        """Calls a function then."""
        self.count += 1
        heapq.heappush(self.events, (self.now + delay_ms, self.count, function, args))

    def run(self, ms: float, until: object = None, check_ms: float = 10.0) -> bool:
        """Lets that much time pass; until(): looked at every check_ms, True ends it. Has it become true?"""
        end = self.now + ms
        next_check = self.now
        events = self.events
        while events and events[0][0] <= end:
            if until is not None and events[0][0] >= next_check:
                self._set_time(max(self.now, next_check))
                if until():
                    return True
                next_check += check_ms
                continue
            self.now, _, function, args = heapq.heappop(events)
            self.now_ms = int(self.now)
            function(*args)
        self._set_time(end)
        return until is not None and until()

    def _set_time(self, now: float) -> None:
        self.now, self.now_ms = now, int(now)

    def arrive(self, dialler: Machine, dial: Dial) -> None:
        """A connection reaches its address: taken, refused, or lost in a dead machine."""
        target = self.by_ip.get(dial.ip)
        link = dial.link
        if not dialler.alive or not link.is_open:
            return
        if target is None or dial.port != BUS_PORT:
            dialler.bus.closed(link, self.now_ms)
            dialler.settle()
            return
        if not target.alive or self.is_cut(dialler, target):
            return
        peer_link = target.bus.accepted(dialler.ip, target.ip, f"{dialler.ip}:40000", self.now_ms)
        link.machine, peer_link.machine = dialler, target
        peer_link.transport = link
        self.later(self.latency_ms, dialler.reached, link, peer_link)

    def is_cut(self, one: Machine, other: Machine) -> bool:
        """Does nothing pass between them?"""
        return bool(self.cut) and (min(one.number, other.number), max(one.number, other.number)) in self.cut
