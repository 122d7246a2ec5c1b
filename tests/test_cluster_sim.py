"""The simulation of large clusters, with a small one."""

from perf import cluster_sim
from perf.virtual import Network


def test_a_cluster_put_together_is_like_one_that_has_met():
    network = Network(3)
    machines = cluster_sim.formed(network, 8, node_timeout=3000)
    network.run(20000)
    for machine in machines:
        state = machine.bus.state
        assert state.state == 0 and state.size == 8
        assert not any(node.is_failed or node.in_handshake for node in state.others())
        assert [state.owner(slot).id for slot in range(0, 16384, 999)] == [
            machines[0].bus.state.owner(slot).id for slot in range(0, 16384, 999)]
    assert sum(machine.bus.stats.received[7] for machine in machines) == 0    # nobody had to be put right


def test_what_is_measured():
    network = Network(4)
    machines = cluster_sim.formed(network, 6, node_timeout=3000)
    moved = cluster_sim.move_slot(network, machines)
    assert moved["done"] and 0 < moved["all_ms"] < 100
    met = cluster_sim.meet_one(network, machines, node_timeout=3000)
    assert met["done"] and met["all_ms"] < 5000
    died = cluster_sim.kill(network, machines, 1)
    assert died["done"] and 3000 < died["all_ms"] < 9000 and died["bytes_per_node_s"] > 0
    result = {"nodes": 6, "meet": met, "slot": moved, "deaths": [died]}
    assert cluster_sim.plot([result]).startswith("<svg")
