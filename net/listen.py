"""Listening sockets, made from the settings."""

import errno
import os
import socket
import time

from net import log
from net.config import ConfigError

IPPROTO_MPTCP = 262
SO_MARK = 36
# A process that was killed leaves its port taken until the kernel has taken its rings down: milliseconds, more when the
# machine is busy. Who restarts it at once is not to be told that the address is in use.
PATIENCE_S = 1.0
AGAIN_S = 0.02
_NO_FAMILY = frozenset((errno.ENOPROTOOPT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT,
                        errno.EPFNOSUPPORT, errno.EAFNOSUPPORT))


class ListenError(Exception):
    """A listener that cannot be had; the log says why."""


def _one(address: str, port: int, config: object) -> socket.socket:
    """A listening TCP socket. address: a name, a number, "*" or "::*" for any."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    host = None if address in ("*", "::*") else address
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, error.strerror) from None
    protocol = IPPROTO_MPTCP if config.get_value("mptcp") else 0
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mark = config.get_value("socket-mark-id")
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        sock.bind(found[0][4])
        sock.listen(config.get_value("tcp-backlog"))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _patient(address: str, port: int, config: object, until: float) -> socket.socket:
    """The same, tried again until that time (monotonic) where the address is in use."""
    while True:
        try:
            return _one(address, port, config)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= until:
                raise
            time.sleep(AGAIN_S)


def tcp_listeners(config: object, port: int = -1, kind: str = "tcp", patience_s: float = 0.0) -> list[socket.socket]:
    """A socket for each address of `bind`; ListenError where one is refused. port: -1: that of the settings;
    patience_s: how long an address may be in use still."""
    until = time.monotonic() + patience_s
    if port < 0:
        port = config.get_value("port")
    made: list[socket.socket] = []
    if not port:
        return made
    for given in config.get_value("bind"):
        optional = given.startswith("-")
        address = given[1:] if optional else given
        try:
            made.append(_patient(address, port, config, until))
        except OSError as error:
            log.warning("Warning: Could not create server TCP listening socket "
                        f"{address}:{port}: bind: {error.strerror}")
            if (optional and error.errno == errno.EADDRNOTAVAIL) or error.errno in _NO_FAMILY:
                continue
            for sock in made:
                sock.close()
            raise ListenError(f"Failed listening on port {port} ({kind}), aborting.") from None
    return made


def unix_listener(config: object) -> socket.socket | None:
    """The unix socket, if the settings name one."""
    path = config.get_value("unixsocket")
    if not path:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        sock.bind(path)
        permissions = config.get_value("unixsocketperm")
        if permissions:
            os.chmod(path, permissions)
        group = config.get_value("unixsocketgroup")
        if group:
            import grp
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        sock.listen(config.get_value("tcp-backlog"))
        sock.setblocking(False)
    except (OSError, KeyError) as error:
        sock.close()
        why = error.strerror if isinstance(error, OSError) else f"no group '{group}'"
        log.warning(f"Failed opening Unix socket: bind: {why}")
        raise ListenError(f"Failed listening on port {config.get_value('port')} (unix), "
                          "aborting.") from None
    return sock


def open_all(config: object) -> list[socket.socket]:
    """All listeners of a start."""
    if config.get_value("tls-port"):
        raise ListenError("Failed finding TLS support.")
    listeners = tcp_listeners(config, patience_s=PATIENCE_S)
    unix = unix_listener(config)
    if unix is not None:
        listeners.append(unix)
    if not listeners:
        raise ListenError("Configured to not listen anywhere, exiting.")
    return listeners


def watch(config: object, replace: object) -> None:
    """Listens elsewhere when `port` or `bind` change.

    replace(open) closes the TCP listeners and takes what open() returns; None: they cannot change.
    """
    def hook(message: str) -> object:
        def moved(_value: object) -> None:
            if replace is None:
                log.warning("Listeners cannot be changed while this server runs.")
                raise ConfigError(message)
            try:
                replace(lambda: tcp_listeners(config))
            except ListenError:
                raise ConfigError(message) from None
        return moved

    def no_tls(value: int) -> None:
        if value:
            raise ConfigError("Unable to update TLS configuration. Check server logs.")

    config.on_change("port", hook("Unable to listen on this port. Check server logs."))
    config.on_change("bind", hook("Failed to bind to specified addresses."))
    config.on_change("tls-port", no_tls)
