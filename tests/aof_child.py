"""Loads append-only files in a process of its own, which may crash: lines of JSON in, lines of JSON out.

{"load": path} -> what came of it, and the data's digest; {"save": path} writes the data as an RDB file."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main() -> None:
    from engine import digest, store
    from net import main as server
    store.create(16, 16)
    server.import_commands()
    from engine.commands import keys
    from net import log, saving
    from persist import aof_check, rdb
    log.write = lambda *_args, **_more: None
    for line in sys.stdin:
        request = json.loads(line)
        if "save" in request:
            print(json.dumps(rdb.save(request["save"].encode(), True, False, b"", 0, 0)), flush=True)
            continue
        keys.empty_held()
        told: list[int] = []
        try:
            loaded = aof_check.load(request["load"], saving.load_preamble, told.append)
        except saving.LoadFailed:
            print(json.dumps({"outcome": "preamble"}), flush=True)
            continue
        answer = loaded._asdict() | {
            "outcome": loaded.outcome.value, "digest": digest.dataset().hex(), "told": told,
            "first_error": loaded.first_error.decode("latin-1"), "failed": loaded.failed.decode("latin-1"),
            "fatal": aof_check.fatal_line(loaded), "critical": aof_check.critical_line(loaded),
            "truncated": aof_check.truncated_lines(loaded)}
        print(json.dumps(answer), flush=True)


main()
