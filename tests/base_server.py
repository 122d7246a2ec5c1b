"""A server whose BGSAVE writes the base of an AOF, in the form that the first argument names, with its index:

    python base_server.py rdb|commands [settings of a server]

What it writes is dump.rdb and base.idx; `payloads` has what snapshot.slot_payload gave for each slot afterwards."""

import os
import pickle
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine import store  # noqa: E402
from net import main, saving  # noqa: E402
from persist import commands_out, snapshot  # noqa: E402

FORM = sys.argv[1]


class Shim:
    """What net.saving takes for persist.snapshot."""

    rest, stop, figures = snapshot.rest, snapshot.stop, snapshot.figures

    @staticmethod
    def begin(slots, functions, used_bytes, delay_us):
        if FORM == "commands":
            functions = commands_out.functions(functions)
        store.hold_all()
        snapshot.begin(slots, functions, used_bytes, delay_us, held=True, commands=FORM == "commands", aof_base=True,
                       index=True)
        store.let_go()

    @staticmethod
    def run(path, checksum):
        found = snapshot.run(path, checksum, b"base.idx")
        assert found[0] or found[1] or found[3], snapshot.figures()
        if not found[1]:
            payloads = {slot: snapshot.slot_payload(slot) for slot in range(16384)}
            with open("payloads.new", "wb") as file:
                pickle.dump({slot: pair for slot, pair in payloads.items() if pair[0]}, file)
            os.rename("payloads.new", "payloads")
        return found


saving.snapshot = Shim
sys.exit(main.main(sys.argv[2:]))
