"""Entry of scripts/server: builds what has changed, then becomes the server."""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[0] = ROOT


def run() -> None:
    """Check the interpreter and the build, then hand over to net.main."""
    if sys._is_gil_enabled():
        sys.exit("Slotring needs a free-threaded Python with the GIL off (python3.13t -X gil=0)")
    import scripts.build as build
    if build.stale():
        build.build()
    from net.main import main
    sys.exit(main(sys.argv[1:]))


run()
