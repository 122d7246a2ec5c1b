"""The server with one more command, TESTMAP, by which a test sets the slot map itself, without any bus.

TESTMAP OWNERS first last index ... | NODE index endpoint | MIGRATING slot index | IMPORTING slot index | STATE code
| PRIMARY index | PAUSE slot | RESUME slot | HIDE slot 0|1 | DROP slot | WITHKEYS"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
SLOTS = 16384


def run(args: list[bytes]) -> object:
    """One TESTMAP command."""
    import array

    from engine import slots
    from net import router
    word, numbers = args[1].lower(), [int(arg) if arg.isdigit() else arg for arg in args[2:]]
    if word == b"owners":
        owners = array.array("H", bytes(2 * SLOTS))
        for first, last, index in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
            owners[first:last + 1] = array.array("H", [index] * (last + 1 - first))
        router.set_owners(owners.tobytes())
    elif word in (b"node", b"migrating", b"importing", b"state", b"primary"):
        getattr(router, "set_" + word.decode())(*numbers)
    elif word in (b"pause", b"resume"):
        getattr(router, word.decode())(numbers)
    elif word == b"hide":
        slots.hide(numbers[:1], bool(numbers[1]))
    elif word == b"drop":
        return router.drop_slot_keys(numbers[0])
    else:
        return slots.with_keys()
    return "OK"


def main() -> int:
    """The server, with it."""
    from net import main as server
    import_commands = server.import_commands

    def import_more() -> None:
        import_commands()
        from engine.command import register_python
        register_python("testmap", -2, "loading stale noscript", (0, 0, 0), lambda _client, args: run(args))

    server.import_commands = import_more
    server.prepare_cluster = server.begin_cluster = lambda: None       # no bus: the map is the test's alone
    return server.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
