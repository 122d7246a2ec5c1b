"""The perf scripts' own logic, on made-up input: names, folding, tables, charts."""

import sys

from servers import ROOT

sys.path.insert(0, str(ROOT / "perf"))

import charts  # noqa: E402
import compare  # noqa: E402
import flame  # noqa: E402

SCRIPT = """\
worker-0   123
\t    7f01 __pyx_f_6engine_8keyspace_lookup+0x10 (/x/keyspace.so)
\t    7f02 __pyx_f_3net_6worker_execute.constprop.0+0x1 (/x/worker.so)

worker-0   123
\t    7f01 [unknown] (/lib/libc.so.6)
\t    7f02 __pyx_f_3net_6worker_execute.constprop.0+0x1 (/x/worker.so)

"""


def test_cython_names():
    assert flame.plain_name("__pyx_f_6engine_8keyspace_lookup") == "engine.keyspace.lookup"
    assert flame.plain_name("__pyx_pw_3net_8commands_6client.kill") == "net.commands.client.kill"
    assert flame.plain_name("tcp_sendmsg") == "tcp_sendmsg"


def test_folding():
    stacks = flame.fold(SCRIPT)
    assert sum(stacks.values()) == 2
    assert {stack[1:] for stack in stacks} == {("net.worker.execute", "engine.keyspace.lookup"),
                                               ("net.worker.execute", "[libc.so.6]")}
    svg = flame.flame_svg(stacks, "a < b")
    assert svg.startswith("<svg") and "a &lt; b" in svg and "engine.keyspace.lookup" in svg


def sample(cpu: float, rps: float) -> dict:
    return {"cpu_us": [cpu] * 3, "rps": [rps] * 3, "p50_ms": [1.0] * 3, "p99_ms": [2.0] * 3}


def test_tables_and_charts(tmp_path):
    result = {
        "date": "2026-01-01", "machine": {"cpu": "a cpu", "cores": 2, "kernel": "6.1"},
        "settings": {"runs": 3, "keys": 1000, "data": 64, "clients": 50},
        "cpu": {"16": {"GET": {"Slotring": sample(0.5, 2e6), "Valkey": sample(1.0, 1e6)}}},
        "threads": {"16": {"GET": {"Slotring, 2 workers": sample(0.5, 3e6), "Valkey": sample(1.0, 1e6),
                                   "Valkey, io-threads 2": sample(1.0, 1.5e6)}}},
        "memory": {"plain": {name: {"rss_bytes": size, "used_memory_bytes": size, "start_rss_bytes": 1 << 24}
                             for name, size in (("Slotring", 100.0), ("Valkey", 125.0))}},
    }
    text = compare.markdown(result)
    assert "| 16 | GET | 0.50 | 1.00 | **0.50** |" in text
    assert "| io-threads 2 | **2.00** |" in text
    assert "**0.80**" in text
    written = compare.write_charts(result, tmp_path / "x.json")
    assert [path.name for path in written] == ["x-cpu.svg", "x-threads.svg"]
    assert "</svg>" in charts.bars("t", "µs", ["a"], [("l", [None])])
