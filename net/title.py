"""The process's title (what ps shows), from proc-title-template."""

import os

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "scripts", "valkey-server")


def words_of(config: object) -> dict[str, str]:
    """What the words in braces stand for, as strings."""
    port, tls_port, unix = (config.get_value(name) for name in ("port", "tls-port", "unixsocket"))
    addresses = config.get_value("bind")
    first = addresses[0].lstrip("-") if addresses else "*"
    where = f"{first}:{port or tls_port}" if port or tls_port else unix
    return {
        "title": PROGRAM, "listen-addr": where,
        "server-mode": "[cluster]" if config.get_value("cluster-enabled") else "",
        "port": str(port), "tls-port": str(tls_port), "unixsocket": unix, "config-file": config.path,
    }


def expand(template: str, words: dict[str, str]) -> str:
    """The template with its words; it has been checked."""
    shown = template.replace("{{", "\0")
    for word, value in words.items():
        shown = shown.replace("{" + word + "}", value)
    return shown.replace("\0", "{").rstrip()


def show(text: str) -> None:
    """Write a title over the arguments the process was started with, and a long one over its environment, as far as
    there is room."""
    import ctypes
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end, env_start, env_end = (int(field) for field in fields[45:49])     # arg_start … env_end of proc(5)
    raw = os.fsencode(text)
    if len(raw) >= end - start and env_start == end:
        for name, value in os.environb.items():
            os.putenv(name, value)                       # a copy elsewhere
        end = env_end
    room = end - start - 1
    if start and room > 0:
        raw = raw[:room]
        ctypes.memset(start, 0, room + 1)
        ctypes.memmove(start, raw, len(raw))


def set_up(config: object) -> None:
    """Now, and whenever what it shows changes."""
    if not config.get_value("set-proc-title"):
        return

    def again(_value: object = None) -> None:
        try:
            show(expand(config.get_value("proc-title-template"), words_of(config)))
        except (OSError, ValueError, ImportError):
            pass                                         # no /proc: the title stays

    again()
    for name in ("proc-title-template", "port", "bind"):
        config.on_change(name, again)
