"""The bus on real sockets, in a thread of its own, and the border between it and the server's other threads.

`driver` is the server's one, None where cluster mode is off. Commands take `driver.lock`, call `driver.bus`, then
`driver.settle()`, all of it in their own thread: what must be on the disk is there before they reply. Only the bus's
thread touches sockets.

nodes.conf is written by whoever lets go of the lock, without it: a disk that takes its time stops nobody who only wants
to look. Until it is written nothing is sent, and no slot that has been gained is served.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from random import Random
from threading import Lock, RLock, Thread, get_ident

from net import cron, log
from net.cluster import decisions, nodesconf, restored, running
from net.cluster.bus import CRON_MS, PORT_OFFSET, Bus, Link, Settings
from net.cluster.decisions import Save
from net.cluster.migrations import Migrations
from net.cluster.nodes import ClusterState, range_words
from net.cluster.routes import Routes, find_router
from net.config import Config
from net.lazy import numpy as np

SAVE_ERROR_EVERY_S = 30
JOIN_S = 5.0
SETTINGS = {
    "node_timeout": "cluster-node-timeout", "ping_interval": "cluster-ping-interval",
    "gossip_percent": "cluster-message-gossip-perc", "blacklist_ttl_s": "cluster-blacklist-ttl",
    "sendbuf_limit": "cluster-link-sendbuf-limit", "require_full_coverage": "cluster-require-full-coverage",
    "allow_replica_migration": "cluster-allow-replica-migration", "replica_no_failover": "cluster-replica-no-failover",
    "replica_validity_factor": "cluster-replica-validity-factor", "migration_barrier": "cluster-migration-barrier",
    "manual_failover_timeout": "cluster-manual-failover-timeout", "repl_ping_period_s": "repl-ping-replica-period",
    "ip": "cluster-announce-ip", "hostname": "cluster-announce-hostname",
    "nodename": "cluster-announce-human-nodename", "zone": "availability-zone",
    "client_ipv4": "cluster-announce-client-ipv4", "client_ipv6": "cluster-announce-client-ipv6",
    "client_port": "cluster-announce-client-port", "client_tls_port": "cluster-announce-client-tls-port",
}
PORTS = ("port", "tls-port", "cluster-announce-port", "cluster-announce-tls-port", "cluster-announce-bus-port")
OTHERS = ("cluster-preferred-endpoint-type",)


class ClusterError(Exception):
    """Why the server cannot start as a cluster's node; it has been logged but for the text, which may be empty."""


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def _log(level: int, text: str) -> None:
    log.write(level, text)


class BusLock:
    """The driver's lock. Whoever lets go of it writes nodes.conf if that is due."""

    def __init__(self, write_out: Callable[[], None]):
        self.inner = RLock()
        self.write_out = write_out
        self.depth = 0
        self.is_due = False

    def __enter__(self) -> None:
        self.inner.acquire()
        self.depth += 1

    def __exit__(self, *_error: object) -> None:
        self.depth -= 1
        write = self.is_due and not self.depth
        self.inner.release()
        if write:
            self.write_out()


class Connection(asyncio.Protocol):
    """A socket of a link, in the bus's thread."""

    def __init__(self, driver: "Driver", link: Link | None):
        self.driver, self.link = driver, link
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """It is connected; the link of an accepted one begins here."""
        self.transport = transport
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        peer_ip, own_ip = (_plain_ip(address) for address in (peer, own))
        _keep_alive(transport.get_extra_info("socket"), self.driver.bus.settings.node_timeout)
        with self.driver.lock:
            bus = self.driver.bus
            if self.link is None:
                where = f"{peer_ip}:{peer[1]}"
                bus.log(log.VERBOSE, f"Accepting cluster node connection from {where}")
                self.link = bus.accepted(peer_ip, own_ip, where, now_ms())
                self.link.transport = self
            elif self.link.is_open:
                self.link.peer = f"{peer_ip}:{peer[1]}"
                self.link.transport = self
                bus.connected(self.link, own_ip, peer_ip, now_ms())
            else:
                transport.abort()
            self.driver.settle()

    def data_received(self, data: bytes) -> None:
        """Bytes for the bus."""
        with self.driver.lock:
            self.driver.bus.received(self.link, data, now_ms())
            if self.driver.migrations.holds_writes():
                self.driver.tell_router()      # before anything is saved: writers wait for it
            self.driver.settle()

    def connection_lost(self, _error: Exception | None) -> None:
        """The other side has gone, or we have let go of it."""
        if self.link is None:
            return
        with self.driver.lock:
            self.driver.bus.closed(self.link, now_ms())
            self.driver.settle()

    def queued_bytes(self) -> int:
        """What has not been taken by the kernel."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def write(self, packets: list[bytes]) -> None:
        """Sends packets."""
        self.transport.writelines(packets)

    def close(self) -> None:
        """Ends it at once."""
        if self.transport is not None:
            self.transport.abort()


class Dialling:
    """A link's socket that is not connected yet."""

    def __init__(self, task: asyncio.Task):
        self.task = task

    def queued_bytes(self) -> int:
        """Nothing has been written."""
        return 0

    def close(self) -> None:
        """Gives it up."""
        self.task.cancel()


def _plain_ip(address: tuple) -> str:
    ip = address[0].partition("%")[0]
    return ip.removeprefix("::ffff:") if "." in ip else ip


def _why(error: Exception) -> str:
    """An error's reason without the address, which asyncio puts in."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)


def _keep_alive(sock: socket.socket, timeout_ms: int) -> None:
    """The kernel looks after connections that say nothing for two timeouts."""
    seconds = max(timeout_ms // 1000 * 2, 1)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, min(seconds, 32767))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, min(max(seconds // 3, 1), 32767))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


class Driver:
    """The running bus."""

    def __init__(self, config: Config):
        self.config = config
        self.lock = BusLock(self._write_out)
        self.file_lock = Lock()              # of who writes nodes.conf; taken before the other one
        self.unsaved: Save | None = None     # what is to be written, or is being written
        self.file = nodesconf.NodesFile(config.get_value("cluster-config-file"), _log)
        self.routes = Routes(find_router())
        self.bus: Bus = self._load()
        self.migrations = Migrations(self, now_ms)
        self.bus.granted = self.migrations.granted
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: Thread | None = None
        self.thread_id = 0
        self.sockets: list[socket.socket] = []
        self.save_error_logged = 0.0
        self.is_flushing = False
        self.posts_fd = -1
        self.deliver: object = None          # (channel, message, sharded): to this node's subscribers
        self.pause: object = None            # (until_ms): writes wait; 0: they go on
        for name in (*SETTINGS.values(), *PORTS, *OTHERS):
            config.on_change(name, self._changed)

    # ---- the start

    def _load(self) -> Bus:
        port, bus_port = self.config.get_value("port"), self.config.get_value("cluster-port")
        if not self.file.lock():
            raise ClusterError("")
        rng = Random(os.urandom(32))
        state = ClusterState(rng, now_ms())
        try:
            text = self.file.read()
            if text:
                nodesconf.load(state, text, now_ms(), _log)
                log.notice(f"Node configuration loaded, I'm {state.myself.name}")
        except nodesconf.CorruptFile as error:
            raise ClusterError(str(error)) from None
        except OSError as error:
            raise ClusterError(f"Loading the cluster node config from {self.file.path}: {error.strerror}") from None
        if not text:
            state.create_myself(now_ms())
            log.notice(f"No cluster configuration found, I'm {state.myself.name}")
            if self.file.save(nodesconf.file_text(state), True, now_ms()):
                raise ClusterError("Fatal: can't update cluster config file.")
        if not bus_port and port > 65535 - PORT_OFFSET:
            raise ClusterError("Valkey port number too high. Cluster communication port is 10,000 port numbers higher "
                               "than your Valkey port. Your Valkey port number must be 55535 or less.")
        if not self.config.get_value("bind"):
            raise ClusterError("No bind address is configured, but it is required for the Cluster bus.")
        settings = Settings()
        self._read_settings(settings)
        bus = Bus(state, settings, rng, _log)
        bus.level = lambda: log.state.level
        bus.count_keys, bus.with_keys = self.routes.count_keys, self.routes.with_keys
        return bus

    def _read_settings(self, settings: Settings) -> None:
        get = self.config.get_value
        # Kept: threads that ask Config ten times a second wait for each other in its dictionaries.
        self.preferred = get("cluster-preferred-endpoint-type")
        for field, name in SETTINGS.items():
            setattr(settings, field, get(name))
        settings.port = get("cluster-announce-port") or get("port")
        settings.tls_port = get("cluster-announce-tls-port") or get("tls-port")
        settings.cport = get("cluster-announce-bus-port") or self.bus_port

    @property
    def bus_port(self) -> int:
        """Where the bus listens."""
        return self.config.get_value("cluster-port") or self.config.get_value("port") + PORT_OFFSET

    def _changed(self, _value: object) -> None:
        """A setting has another value."""
        with self.lock:
            self._read_settings(self.bus.settings)
            self.bus.now = now_ms()
            self.bus.settings_changed()
            self.settle()

    def loaded(self) -> None:
        """The data is there, clients are not: whose slots it is of, and the bus's sockets; ListenError where an address
        is refused."""
        from net import listen
        with self.lock:
            self.check_data()
            self.routes.update(self.bus.state, self.preferred)
        self.sockets = listen.tcp_listeners(self.config, self.bus_port, "cluster", listen.PATIENCE_S)

    def begin(self) -> None:
        """The bus runs."""
        from net import subscribe
        self.deliver = subscribe.deliver
        self.posts_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        subscribe.set_posts_fd(self.posts_fd)
        self.thread = Thread(target=self._run, name="cluster-bus", daemon=True)
        self.thread.start()

    def check_data(self) -> None:
        """Slots that have keys here and are nobody's become this node's; keys of others' slots go."""
        state, me = self.bus.state, self.bus.state.myself
        unfinished = restored.take(self)
        if me.is_replica or self.routes.is_empty():
            return
        self.routes.drop_keys(unfinished)
        taken, dropped = [], []
        for slot in range(len(state.owners)):
            owner = state.owner(slot)
            if owner is me or slot in state.importing or not self.routes.count_keys(slot):
                continue
            if owner is None:
                log.notice(f"I have keys for unassigned slot {slot}. Taking responsibility for it.")
                taken.append(slot)
            else:
                log.notice(f"I have keys for slot {slot}, but the slot is assigned to another node. Deleting keys in "
                           "the slot.")
                dropped.append(slot)
        state.assign(me, np.array(taken, np.intp))
        self.routes.drop_keys(dropped)
        if taken or dropped:
            self._save(nodesconf.file_text(state), True)

    def _run(self) -> None:
        self.thread_id = get_ident()
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        self.ended = asyncio.Event()
        self.loop.add_reader(self.posts_fd, self._publish)
        servers = [await self.loop.create_server(lambda: Connection(self, None), sock=sock) for sock in self.sockets]
        self.due = self.loop.time()
        self._tick()
        await self.ended.wait()
        for server in servers:
            server.close()
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()

    def _publish(self) -> None:
        """Clients of this node have published messages."""
        from net import subscribe
        os.eventfd_read(self.posts_fd)
        posts = subscribe.take_posts()
        with self.lock:
            for post in posts:
                self.bus.publish(*post)
            self.settle()

    def _tick(self) -> None:
        """The cron, ten times a second."""
        if not cron.paused:
            try:
                with self.lock:
                    self.bus.cron(now_ms())
                    self.settle()
            except Exception as error:      # the next round must come
                log.warning(f"Cluster cron: {error!r}")
        self.due = max(self.due + CRON_MS / 1000, self.loop.time())
        self.loop.call_at(self.due, self._tick)

    def end(self) -> None:
        """The server ends: the file is written and free."""
        log.notice("Saving the cluster configuration file before exiting.")
        self.save()
        with self.file_lock:
            self.file.release()
        if self.thread is not None and self.loop is not None:
            self.loop.call_soon_threadsafe(self.ended.set)
            self.thread.join(JOIN_S)

    # ---- between calls of the bus

    @contextlib.contextmanager
    def working(self) -> Iterator[Bus]:
        """The bus, for a command that does not hold the lock: its decisions are carried out at the end."""
        with self.lock:
            self.bus.now = now_ms()
            yield self.bus
            self.settle()
            is_saving = self.unsaved is not None
        if is_saving:                        # perhaps by another thread, which tells the router afterwards
            self._write_out()

    def settle(self) -> None:
        """Carries out what the bus has decided; the lock is held. In any thread: sockets are left to the bus's."""
        bus = self.bus
        while bus.state.todo or bus.actions:
            bus.before_sleep(now_ms())
            for action in bus.take_actions():
                self._act(action)
        if self.unsaved is None:
            self._settled()

    def _settled(self) -> None:
        """What is decided is on the disk, where it must be."""
        self.tell_router()
        if self.bus.dirty and self.loop is not None and not self.is_flushing:
            self.is_flushing = True
            self._in_loop(self._flush)

    def tell_router(self) -> None:
        """The router, and slot migrations, are told what has changed; the lock is held."""
        if self.migrations.drops.slots:
            self.migrations.drops.regained()
        self.routes.update(self.bus.state, self.preferred)
        self.migrations.owners_changed()

    def _flush(self) -> None:
        with self.lock:
            self.is_flushing = False
            if self.unsaved is not None:     # who saves it calls again
                return
            for link, packets in self.bus.take_output():
                if isinstance(link.transport, Connection):
                    link.transport.write(packets)

    def _act(self, action: object) -> None:
        if isinstance(action, decisions.Save):
            before = self.unsaved
            self.unsaved = Save(action.fsync or (before is not None and before.fsync))
            self.lock.is_due = True
        elif isinstance(action, decisions.Dial):
            self._in_loop(self._dial, action)
        elif isinstance(action, decisions.Close):
            if action.link.transport is not None:
                self._in_loop(action.link.transport.close)
        elif isinstance(action, decisions.Deliver):
            if self.deliver is not None:
                self.deliver(*action)
        elif isinstance(action, decisions.DropKeys):
            self.tell_router()        # before the keys go no client may write there any more
            me = self.bus.state.myself
            shown = " ".join(range_words(np.array(action.slots, np.intp)))     # a line for each would cost more
            log.notice(f"Deleting keys in dirty slots {shown} on node {me.label} in shard "
                       f"{me.shard_id.decode()}")
            self.migrations.drop(action.slots)
        elif isinstance(action, decisions.PauseWrites):
            if self.pause is not None:
                self.pause(action.until)
        else:
            log.warning(f"Not built yet: {action}")

    def _in_loop(self, function: object, *args: object) -> None:
        if get_ident() == self.thread_id:
            self.loop.call_soon(function, *args)      # nobody has to wake it: that costs two system calls
        elif self.loop is not None:
            self.loop.call_soon_threadsafe(function, *args)

    def save(self) -> str:
        """CLUSTER SAVECONFIG: empty, or what failed. Without the lock."""
        with self.file_lock:
            with self.lock.inner:
                text = nodesconf.file_text(self.bus.state)
            return self.file.save(text, True, now_ms())

    def _write_out(self) -> None:
        """Writes what is unsaved; when it returns that is done, perhaps by another thread. Without the lock."""
        with self.file_lock:
            while True:
                with self.lock.inner:
                    wanted = self.unsaved
                    if wanted is None:
                        return
                    self.lock.is_due = False
                    text = nodesconf.file_text(self.bus.state)
                self._save(text, wanted.fsync)
                with self.lock.inner:
                    if self.unsaved is wanted:
                        self.unsaved = None
                        self._settled()

    def _save(self, text: str, fsync: bool) -> None:
        if not self.file.save(text, fsync, now_ms()):
            return
        if self.config.get_value("cluster-config-save-behavior") == "sync":
            log.warning("Fatal: can't update cluster config file.")
            os._exit(1)
        now = time.monotonic()
        if now - self.save_error_logged > SAVE_ERROR_EVERY_S or not self.save_error_logged:
            log.warning("Cluster config updated even though writing the cluster config file to disk failed.")
            self.save_error_logged = now

    # ---- dialling, in the bus's thread

    def _dial(self, dial: decisions.Dial) -> None:
        if dial.link.is_open:
            dial.link.transport = Dialling(self.loop.create_task(self._connect(dial)))

    async def _connect(self, dial: decisions.Dial) -> None:
        source = self.config.get_value("bind-source-addr")
        try:
            await self.loop.create_connection(lambda: Connection(self, dial.link), dial.ip, dial.port,
                                              local_addr=(source, 0) if source else None)
        except (OSError, ValueError, OverflowError) as error:
            with self.lock:
                node = dial.link.node
                if node is not None:
                    self.bus.log(log.VERBOSE, f"Connection with Node {node.name} at {dial.ip}:{dial.port} failed: "
                                              f"{_why(error)}")
                self.bus.closed(dial.link, now_ms())
                self.settle()


def prepare(config: Config) -> None:
    """Before data is loaded, where cluster mode is on: nodes.conf is locked and read; ClusterError."""
    router = find_router()
    begin = getattr(router, "begin_cluster", None)
    if begin is not None:
        begin()
    running.driver = Driver(config)
