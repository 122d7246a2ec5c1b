"""A port that is still taken when the server starts."""

import socket
import threading

from servers import Server


def held(port: int) -> socket.socket:
    """Somebody else listens there."""
    sock = socket.create_server(("127.0.0.1", port))
    sock.listen()
    return sock


def test_a_port_that_becomes_free(tmp_path):
    """So a process that was killed leaves it, until the kernel has taken its rings down."""
    server = Server(tmp_path / "late", "--bind", "127.0.0.1")
    sock = held(server.port)
    threading.Timer(0.4, sock.close).start()
    try:
        server.start()
        with server.connect() as client:
            assert client.ping()
    finally:
        server.kill()
