"""What a cluster of thousands of nodes does on its bus: the real bus code in one process, in virtual time.

    python -m perf.cluster_sim [--nodes 2000 ...] [--out FILE.json] [--plot FILE.svg] [--seed N]
    python -m perf.cluster_sim --compare 3 10 [--runs 3] [--seeds 10] [--command /path/to/valkey-server]

Nodes are primaries with as many slots each, links have a latency of 0.5 ms, a synced file takes 2 ms,
cluster-node-timeout is Valkey's 15 s. A cluster of that size is not met node by node (4 million handshakes) but put
together as nodes that have met are. Dead nodes are machines that no longer answer.
"""

import argparse
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from net.cluster import messages as m
from net.cluster import ownership
from net.cluster.nodes import SLOTS, STATE_OK, T_SAVE, T_STATE, Node, map_of
from perf import cluster_real
from perf.charts import COLOURS, bars
from perf.virtual import BUS_PORT, PORT, Machine, Network, VirtualLink

WARM_MS = 3_000
STEADY_MS = 7_500            # in which each node is pinged by all who have not heard of it: pings come in waves
GOSSIP_KEEPS_FRESH = 500
SYNC_MS = 2.0                # until nodes.conf is on the disk
LIMIT_MS = 120_000
DEATHS = (1, 20, 200)
KNOWN = m.F_PRIMARY | m.F_EXTENSIONS | m.F_LIGHT_PUBLISH | m.F_LIGHT_MODULE


def cpu_s() -> float:
    """Processor time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# --- a cluster that has met ----------------------------------------------------------------------


def _introduce(machine: Machine, known: list[tuple], rows: np.ndarray, rank: np.ndarray, now: int) -> None:
    """The machine knows all others, as gossip and pongs would have told it. rank: which node has which place."""
    state = machine.bus.state
    nodes, order, shards, table = state.nodes, state.order, state.shards, state.table
    for number in rank[1:].tolist():
        node_id, shard_id, ip, epoch, slots, numslots, head, tail = known[number]
        node = Node(table, node_id, shard_id, KNOWN, now)
        node.ip, node.tcp_port, node.cport = ip, PORT, BUS_PORT
        node.config_epoch, node.slots, node.numslots = epoch, slots, numslots
        node.said, node.said_tail = head, tail
        nodes[node_id] = node
        order.append(node)
        shards[shard_id] = [node]
    table.rows[1:len(order)] = rows[rank]
    table.recount()


def _connect(machines: list[Machine], now: int) -> None:
    """Two links between each two."""
    count = len(machines)
    for number, machine in enumerate(machines):
        order, ip = machine.bus.state.order, machine.ip
        for other in range(count):
            if other == number:
                continue
            target = machines[other]
            node = order[other + 1 if other > number else other + 2]
            there = target.bus.state.order[number + 1 if number > other else number + 2]
            out, back = VirtualLink(node, now, target.ip, ip), VirtualLink(None, now, ip, target.ip)
            back.node = there
            out.machine, back.machine = machine, target
            out.transport, back.transport = back, out
            out.is_connected = out.extensions = back.extensions = True
            said = there.said
            node.link, there.inbound = out, back
            there.said = said


def formed(network: Network, count: int, **settings: object) -> list[Machine]:
    """So many nodes that have met a while ago; all slots have an owner."""
    machines = [network.add(**settings) for _ in range(count)]
    now = network.now_ms
    owners = np.arange(SLOTS) * count // SLOTS
    known, rows = [], np.zeros(count, m.gossip_type())
    spreads = 1 + count // GOSSIP_KEEPS_FRESH       # in a large cluster gossip tells of all nodes often
    for number, machine in enumerate(machines):
        state = machine.bus.state
        me = state.myself
        me.config_epoch = number + 1
        me.set_address(machine.ip, PORT, 0, BUS_PORT)
        me.slots, me.numslots = state.shared(map_of(owners == number)), int(np.count_nonzero(owners == number))
        rows[number] = state.table.rows[1]
        state.current_epoch = count
        state.state, state.size, state.safe_to_join, state.todo = STATE_OK, count, True, 0
        machine.bus.first_state_time = now - 60_000
        state.table.quorum = count // 2 + 1
        head, tail = machine.bus.ping_heads()[1]
        known.append((me.id, me.shard_id, me.ip, me.config_epoch, me.slots, me.numslots, m.plain_head(head), tail))
    for number, machine in enumerate(machines):
        rank = np.array([number, *range(number), *range(number + 1, count)])
        _introduce(machine, known, rows, rank, now)
        state = machine.bus.state
        state.owners[:] = np.where(owners == number, 1, np.where(owners < number, owners + 2, owners + 1))
        table = state.table
        ages = np.random.default_rng(number).integers(0, settings.get("node_timeout", 15000) // 2 // spreads, count)
        table.pong_received[1:count + 1] = now - ages
        table.data_received[1:count + 1] = now - ages
    _connect(machines, now)
    return machines


# --- measuring -----------------------------------------------------------------------------------


class Meter:
    """Bytes, packets and processor time of a span."""

    def __init__(self, network: Network, machines: list[Machine]):
        self.network = network
        self.nodes = list(machines)
        self.start = network.now
        self.bytes = np.array([machine.bus.stats.bytes_sent for machine in self.nodes])
        self.packets = sum(sum(machine.bus.stats.sent) for machine in self.nodes)
        self.cpu = cpu_s()
        self.wall = time.monotonic()

    def result(self) -> dict:
        """What one node did in a second, on average."""
        seconds = (self.network.now - self.start) / 1000
        sent = np.array([machine.bus.stats.bytes_sent for machine in self.nodes]) - self.bytes
        packets = sum(sum(machine.bus.stats.sent) for machine in self.nodes) - self.packets
        rate = sent / seconds
        return {"virtual_s": round(seconds, 3), "wall_s": round(time.monotonic() - self.wall, 2),
                "bytes_per_node_s": round(float(rate.mean())),
                "bytes_per_node_s_p99": round(float(np.quantile(rate, 0.99))),
                "packets_per_node_s": round(packets / seconds / len(self.nodes), 3),
                "cpu_ms_per_node_s": round((cpu_s() - self.cpu) * 1000 / seconds / len(self.nodes), 4)}


class Event:
    """Something that happens, and who has come to know it: act() makes it happen, knows(machine) tells."""

    def __init__(self, act: Callable[[], None], knows: Callable[[Machine], bool], machines: list[Machine]):
        self.act, self.knows = act, knows
        self.missing = list(machines)
        self.times: list[float] = []

    def is_over(self, since_ms: float) -> bool:
        """Notes who has come to know it in the time since it happened."""
        left = [machine for machine in self.missing if not self.knows(machine)]
        self.times += [since_ms] * (len(self.missing) - len(left))
        self.missing = left
        return not left

    def result(self) -> dict:
        """When half, 99 % and all of them knew, in ms."""
        known = np.array(self.times or [np.nan])
        return {"done": not self.missing, "p50_ms": round(float(np.quantile(known, 0.5)), 2),
                "p99_ms": round(float(np.quantile(known, 0.99)), 2),
                "all_ms": None if self.missing else round(float(known.max()), 2)}


def spread(network: Network, events: list[Event], machines: list[Machine], check_ms: float = 50.0) -> list[dict]:
    """Makes events happen at once, and runs until all know of each; how long that took, and what the time cost."""
    start, meter = network.now, Meter(network, machines)
    for event in events:
        event.act()

    def all_over() -> bool:
        over = [event.is_over(network.now - start) for event in events]
        return all(over)

    network.run(LIMIT_MS, all_over, check_ms)
    cost = meter.result()
    return [event.result() | cost for event in events]


def _known(machine: Machine, other: Machine) -> Node | None:
    return machine.bus.state.nodes.get(other.bus.state.myself.id)


def meeting(network: Network, machines: list[Machine], **settings: object) -> Event:
    """A new node meets one of the cluster: until all know it, and it knows all, with links both ways."""
    fresh = network.add(**settings)
    there = list(machines)

    def is_met(node: Node | None) -> bool:
        return node is not None and not node.in_handshake

    def knows(machine: Machine) -> bool:
        if machine is fresh:
            return all(is_met(_known(fresh, other)) for other in there)
        node = _known(machine, fresh)
        return is_met(node) and node.link is not None and node.inbound is not None

    event = Event(lambda: there[0].meet(fresh), knows, [*there, fresh])
    machines.append(fresh)
    return event


def meet_one(network: Network, machines: list[Machine], **settings: object) -> dict:
    """A node met, and nothing else."""
    return spread(network, [meeting(network, machines, **settings)], machines)[0]


def move_slot(network: Network, machines: list[Machine]) -> dict:
    """A slot's new owner says so: until all know."""
    target, slot = machines[1], int(np.flatnonzero(machines[0].bus.state.owners == 1)[0])

    def take_it() -> None:
        target.bus.now = network.now_ms
        target.bus.state.assign(target.bus.state.myself, np.array([slot]))
        ownership.bump_epoch(target.bus)
        target.bus.todo(T_SAVE | T_STATE)
        target.settle()

    new_id = target.bus.state.myself.id
    known = Event(take_it, lambda machine: (
        machine.bus.state.owner(slot).id == new_id and machine.busy_until <= network.now), machines)
    return spread(network, [known], machines, 0.25)[0]


def death(machines: list[Machine], count: int) -> Event:
    """So many, the last ones, die at once: until all the others have them as failed."""
    dead = machines[-count:]
    del machines[-count:]

    def die() -> None:
        for machine in dead:
            machine.alive = False

    ids = [machine.bus.state.myself.id for machine in dead]
    return Event(die, lambda machine: all(machine.bus.state.nodes[each].is_failed for each in ids), machines)


def kill(network: Network, machines: list[Machine], count: int) -> dict:
    """Nodes that die, and nothing else."""
    return {"dead": count, **spread(network, [death(machines, count)], machines)[0]}


def quiet_parts(network: Network, machines: list[Machine], say: Callable[[str], None]) -> dict:
    """What goes on all the time, a slot that moves, and then one node that comes while another dies."""
    meter = Meter(network, machines)
    network.run(STEADY_MS)
    result: dict = {"steady": meter.result()}
    say(f"steady: {result['steady']}")
    result["slot"] = move_slot(network, machines)
    say(f"slot: {result['slot']}")
    gone = death(machines, 1)          # first: who has gone need not be met
    result["meet"], died = spread(network, [meeting(network, machines), gone], machines)
    result["deaths"] = [{"dead": 1, **died}]
    say(f"meet: {result['meet']}")
    say(f"deaths: {result['deaths'][0]}")
    return result


def in_child(work: Callable[[], dict]) -> Callable[[], dict]:
    """Runs work() in a copy of this process, beside it; call what comes back for its result."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        with open(writable, "w") as pipe:
            json.dump(work(), pipe)
        os._exit(0)
    os.close(writable)

    def result() -> dict:
        with open(readable) as pipe:
            text = pipe.read()
        os.waitpid(child, 0)
        return json.loads(text)

    return result


def simulate(count: int, seed: int, say: Callable[[str], None]) -> dict:
    """All measurements of one size. Many deaths happen in copies of the cluster, in processes of their own."""
    begun, cpu = time.monotonic(), cpu_s()
    network = Network(seed, sync_ms=SYNC_MS)
    machines = formed(network, count)
    say(f"{count} nodes put together in {time.monotonic() - begun:.1f} s")
    network.run(WARM_MS)
    gc.freeze()
    say(f"{WARM_MS / 1000:g} s warmed up, {time.monotonic() - begun:.1f} s")

    def deaths(dead: int) -> dict:
        start = cpu_s()
        died = kill(network, machines, dead)
        say(f"deaths: {died}")
        return {"died": died, "cpu_s": cpu_s() - start, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}

    others = [in_child(partial(deaths, dead)) for dead in DEATHS[1:] if dead * 3 < count]
    result: dict = {"nodes": count, "seed": seed, "latency_ms": network.latency_ms, "node_timeout_ms": 15000,
                    **quiet_parts(network, machines, say)}
    many = [other() for other in others]
    result["deaths"] += [each["died"] for each in many]
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + sum(each["rss"] for each in many)
    result["peak_rss_mb"] = rss // 1024
    result["wall_s"] = round(time.monotonic() - begun, 1)
    result["cpu_s"] = round(cpu_s() - cpu + sum(each["cpu_s"] for each in many), 1)
    return result


# --- beside real processes -----------------------------------------------------------------------

COMPARED = (("bytes_per_node_s", "bus bytes a node a second"), ("meet_ms", "a node met, all links, ms"),
            ("slot_ms", "a slot moved, ms"), ("death_ms", "a node dead, failed everywhere, ms"))


def simulated(count: int, runs: int, seed: int, sync_ms: float) -> dict:
    """The figures that are compared, means over so many seeds."""
    found: dict[str, list] = {name: [] for name, _ in COMPARED}
    for number in range(seed, seed + runs):
        network = Network(number, cluster_real.LATENCY_MS, sync_ms=sync_ms)
        machines = formed(network, count)
        network.run(cluster_real.SETTLE_S * 1000)
        meter = Meter(network, machines)
        network.run(cluster_real.STEADY_S * 1000)
        found["bytes_per_node_s"].append(meter.result()["bytes_per_node_s"])
        found["slot_ms"].append(move_slot(network, machines)["all_ms"])
        network.run(cluster_real.SETTLE_S * 1000)
        found["meet_ms"].append(meet_one(network, machines)["all_ms"])
        network.run(cluster_real.SETTLE_S * 1000)
        found["death_ms"].append(kill(network, machines, 1)["all_ms"])
    return {name: float(np.mean(values)) for name, values in found.items()}


def compare(counts: list[int], args: argparse.Namespace, say: object) -> list[dict]:
    """Simulated and real clusters of each size, as a table on the standard output too."""
    rows = []
    for count in counts:
        sync_ms = cluster_real.sync_ms()
        say(f"a file is on the disk after {sync_ms:.2f} ms")
        virtual = simulated(count, args.seeds, args.seed, sync_ms)
        real = cluster_real.measure(args.command, count, args.runs, args.port, say)
        rows.append({"nodes": count, "simulated": virtual, "real": real, "sync_ms": sync_ms})
        for name, text in COMPARED:
            print(f"{count:5} nodes  {text:36} simulated {virtual[name]:12,.2f}  real {real[name]:12,.2f}  "
                  f"ratio {virtual[name] / real[name]:.2f}", flush=True)
        print(f"{count:5} nodes  {'CPU ms a node a second':36} real {real['cpu_ms_per_node_s']:.2f}", flush=True)
    return rows


def plot(results: list[dict]) -> str:
    """The times until all nodes know, as bars for each size."""
    groups = []
    for found in results:
        values = [found["meet"]["all_ms"], found["slot"]["all_ms"], *(each["all_ms"] for each in found["deaths"])]
        groups.append((f"{found['nodes']} nodes", values + [None] * (2 + len(DEATHS) - len(values))))
    series = ["a node met", "a slot moved", *(f"{dead} died" for dead in DEATHS)]
    shown = len(COLOURS)
    return bars("Until all nodes know", "ms", series[:shown], [(label, row[:shown]) for label, row in groups])


def main(argv: list[str]) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[2000])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--compare", type=int, nargs="+", metavar="NODES", help="beside so many real processes")
    parser.add_argument("--command", nargs="+", help="the real server's command, if not Slotring's")
    parser.add_argument("--runs", type=int, default=3, help="of each measurement with real processes")
    parser.add_argument("--seeds", type=int, default=10, help="of each measurement that it is compared with")
    parser.add_argument("--port", type=int, default=23000, help="the first one of real processes")
    args = parser.parse_args(argv)
    gc.disable()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    results = (compare(args.compare, args, say) if args.compare
               else [simulate(count, args.seed, say) for count in args.nodes])
    if args.plot and not args.compare:
        args.plot.write_text(plot(results))
    text = json.dumps(results, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    else:
        print(text, flush=True)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)       # to take millions of objects apart would take longer than to make them
