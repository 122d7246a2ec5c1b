"""Bytes that make no sense, from 50 connections, at a server under load. scripts/fuzz runs it for longer."""

import os
import sys

import pytest
from servers import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import fuzz  # noqa: E402

SERVER_OPTIONS = fuzz.SERVER_OPTIONS
PING_LIMIT_S = 20.0     # other tests run beside this one; scripts/fuzz alone asks for 2
SHORT_S = float(os.environ.get("SLOTRING_TEST_FUZZ_S", "1"))


@pytest.mark.parametrize("seconds", [SHORT_S, pytest.param(120, marks=pytest.mark.slow)])
def test_no_crash_no_hang_no_leak(server, seconds):
    seed = int.from_bytes(os.urandom(4))
    sanitized = os.environ.get("SLOTRING_TEST_VARIANT", "release") != "release"
    report = fuzz.fuzz(server.port, server.pid, seconds, seed=seed, check_rss=not sanitized, ping_limit_s=PING_LIMIT_S)
    print(fuzz.table(report, seconds))
    assert not report.failures, f"seed {seed}: {report.failures}\n{server.log_tail()}"
    assert server.is_alive()
    assert report.counts["load_commands"] > 100
