"""Entry of scripts/server: builds what has changed, then becomes the server."""

import gc
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[0] = ROOT
gc.disable()  # it would walk a heap that only grows; net.main collects once, before it serves
sys.dont_write_bytecode = False  # a start that compiles every module anew is a slow one


def run() -> None:
    """Check the interpreter and the build, then hand over to net.main."""
    if sys._is_gil_enabled():
        sys.exit("Slotring needs a free-threaded Python with the GIL off (python3.13t -X gil=0)")
    from scripts import build

    if not build.fresh():
        try:
            build.build()
        except build.BuildFailed as failure:
            sys.exit(f"Slotring: these modules do not compile: {failure}")
    from net.main import main

    sys.exit(main(sys.argv[1:]))


run()
