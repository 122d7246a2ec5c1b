"""What the control thread does between two waits."""

import gc
import time

from engine import arena, conf, keyspace, store

# Callables that other modules append: called once, after the commands are there and before clients are.
ON_START: list = []
LOAD_BYTES: list = []            # functions: how many bytes those of ON_START are about to load
# Callables that other modules append: each is called once a tick with the wall clock in milliseconds.
CRON: list = []
GC_EVERY_S = 600.0
EXPIRE_CPU_PERCENT = 25  # of the control thread's time, at effort 1
EXPIRE_CPU_STEP = 2      # more for each further effort
LAZY_FREE_BUDGET = 10000
EVICT_BUDGET = 25000
TRIM_EVERY_TICKS = 10
TRIM_KEEP_BYTES = 16 << 20   # free memory that is kept at most, if it was used lately, and an eighth of what is used

ticks = 0
spent_us = 0    # by ticks since the start
paused = False  # DEBUG PAUSE-CRON


def lazy_free(budget_us: int) -> None:
    """Frees flushed databases, and large values that were deleted."""
    from engine.commands import keys
    keys.lazy_free(budget_us)
    keys.count_lazyfreed(store.free_doomed(budget_us))


class Ticker:
    """Runs the periodic work; `tick` is called hz times a second."""

    def __init__(self, config: object, log: object):
        self.config = config
        self.log = log
        from net.commands import memory
        self.used_bytes = memory.used_bytes
        self.next_gc = time.monotonic() + GC_EVERY_S
        self.failed: set = set()
        self.lately_bytes = 0      # the most that was used, half of it forgotten at each trim

    def period_s(self) -> float:
        """The time from one tick to the next."""
        return 1.0 / self.config.get_value("hz")

    def tick(self) -> None:
        """One round. A part that fails is logged once and tried again each time."""
        global ticks, spent_us
        ticks += 1
        if paused:
            return
        began_ns = time.monotonic_ns()
        now_ms = time.time_ns() // 1_000_000
        if conf.get("active_expire") and not conf.get("paused") and not conf.get("import_mode"):
            effort = self.config.get_value("active-expire-effort") - 1
            percent = EXPIRE_CPU_PERCENT + EXPIRE_CPU_STEP * effort
            budget_us = int(self.period_s() * percent * 10_000)
            self._run(keyspace.expire_cycle, now_ms, budget_us)
        self._run(lazy_free, LAZY_FREE_BUDGET)
        self._run(keyspace.evict_cycle, now_ms, EVICT_BUDGET)
        if ticks % TRIM_EVERY_TICKS == 0:
            self._run(self._trim)
        self._run(self.used_bytes)  # keeps the peak
        for job in tuple(CRON):
            self._run(job, now_ms)
        if time.monotonic() >= self.next_gc:
            gc.collect()
            self.next_gc = time.monotonic() + GC_EVERY_S
        spent_us += (time.monotonic_ns() - began_ns) // 1000

    def _trim(self) -> None:
        used = store.used_exact()
        self.lately_bytes = max(used, self.lately_bytes // 2)
        arena.settle()
        store.trim(min(self.lately_bytes - used, TRIM_KEEP_BYTES) + used // 32)

    def _run(self, job: object, *args: object) -> None:
        try:
            job(*args)
            self.failed.discard(job)
        except Exception as error:
            if job not in self.failed:
                self.failed.add(job)
                name = getattr(job, "__qualname__", repr(job))
                self.log.warning(f"Periodic work '{name}' fails: {error!r}")
