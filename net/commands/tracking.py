"""CLIENT TRACKING, CACHING, TRACKINGINFO, GETREDIR: the rest is net/tracking.pyx."""

from engine.command import register_python

from net import bridge, cron, tracking
from net.commands import client as _container  # noqa: F401  its row has to be there first
from net.commands.common import NO_KEYS, about, integer, syntax_error, words
from net.reply import Error, Set

cron.CRON.append(tracking.tick)

# T_… of net/tracking.pxd
BCAST, OPTIN, OPTOUT, NOLOOP, CACHING, BROKEN = 1, 2, 4, 8, 16, 64
OPTIONS = {b"bcast": BCAST, b"optin": OPTIN, b"optout": OPTOUT, b"noloop": NOLOOP}
OTHER_MODE = (
    "ERR You can't switch {} mode {}before disabling tracking for this client, and then re-enabling it "
    "with a different mode."
)
NOT_TRACKING = (
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT "
    "mode enabled"
)
OVERLAP = (
    "ERR Prefix '{}' overlaps with {} prefix '{}'. Prefixes for a single client must not overlap."
)


def _options(args: list[bytes]) -> tuple[int, int, list[bytes]]:
    """Bits, redirection and prefixes."""
    bits = redirect = 0
    prefixes: list[bytes] = []
    at = 3
    while at < len(args):
        word = args[at].lower()
        if word in OPTIONS:
            bits |= OPTIONS[word]
        elif word in (b"redirect", b"prefix") and at + 1 < len(args):
            at += 1
            if word == b"prefix":
                prefixes.append(args[at])
            else:
                if redirect:
                    raise Error("ERR A client can only redirect to a single other client")
                redirect = integer(args[at])
                if redirect <= 0 or not bridge.is_client(redirect):
                    raise Error("ERR The client ID you want redirect to does not exist")
        else:
            raise syntax_error()
        at += 1
    return bits, redirect, prefixes


def _overlaps(one: bytes, other: bytes) -> bool:
    return one.startswith(other) or other.startswith(one)


def _check_prefixes(client: object, prefixes: list[bytes]) -> None:
    existing = tracking.prefixes_of(client.id)
    for at, prefix in enumerate(prefixes):
        for other in existing:
            if _overlaps(prefix, other):
                raise Error(OVERLAP.format(words(prefix), "an existing", words(other)))
        for other in prefixes[at + 1 :]:
            if _overlaps(prefix, other):
                raise Error(OVERLAP.format(words(prefix), "another provided", words(other)))


def client_tracking(client: object, args: list[bytes]) -> object:
    """CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]"""
    bits, redirect, prefixes = _options(args)
    word = args[2].lower()
    if word == b"off":
        client.untrack()
        return "OK"
    if word != b"on":
        raise syntax_error()
    before = client.tracking
    if prefixes and not bits & BCAST:
        raise Error("ERR PREFIX option requires BCAST mode to be enabled")
    if before is not None and (before ^ bits) & BCAST:
        raise Error(OTHER_MODE.format("BCAST", "on/off "))
    if bits & BCAST and bits & (OPTIN | OPTOUT):
        raise Error("ERR OPTIN and OPTOUT are not compatible with BCAST")
    if bits & OPTIN and bits & OPTOUT:
        raise Error("ERR You can't specify both OPTIN mode and OPTOUT mode")
    if before is not None and (
            bits & OPTIN and before & OPTOUT or bits & OPTOUT and before & OPTIN):
        raise Error(OTHER_MODE.format("OPTIN/OPTOUT", ""))
    if bits & BCAST:
        _check_prefixes(client, prefixes)
    client.track(bits | (before or 0) & CACHING, redirect, (prefixes or [b""]) if bits & BCAST else [])
    return "OK"


def client_caching(client: object, args: list[bytes]) -> object:
    """CLIENT CACHING YES|NO"""
    bits = client.tracking
    if bits is None:
        raise Error(NOT_TRACKING)
    word = args[2].lower()
    wanted = {b"yes": OPTIN, b"no": OPTOUT}.get(word)
    if wanted is None:
        raise syntax_error()
    if not bits & wanted:
        raise Error(f"ERR CLIENT CACHING {words(word).upper()} is only valid when tracking is enabled in "
                    f"{'OPTIN' if wanted == OPTIN else 'OPTOUT'} mode.")
    client.caching()
    return "OK"


def client_trackinginfo(client: object, _args: list[bytes]) -> object:
    """CLIENT TRACKINGINFO"""
    bits = client.tracking
    if bits is None:
        return {b"flags": Set([b"off"]), b"redirect": -1, b"prefixes": []}
    flags = Set([b"on"])
    for bit, word, caching in ((BCAST, b"bcast", b""), (OPTIN, b"optin", b"caching-yes"),
                               (OPTOUT, b"optout", b"caching-no"), (NOLOOP, b"noloop", b""),
                               (BROKEN, b"broken_redirect", b"")):
        if bits & bit:
            flags.append(word)
            if caching and bits & CACHING:
                flags.append(caching)
    return {b"flags": flags, b"redirect": client.redirect,
            b"prefixes": tracking.prefixes_of(client.id)}


def client_getredir(client: object, _args: list[bytes]) -> object:
    """CLIENT GETREDIR"""
    return -1 if client.tracking is None else client.redirect


FREE = "noscript loading stale"
BUSY = "noscript loading stale allow_busy"
for _name, _arity, _flags, _since, _handler, _summary in (
        ("caching", 3, BUSY, "6.0.0", client_caching, "Chooses for one command whether its keys are tracked."),
        ("getredir", 2, BUSY, "6.0.0", client_getredir, "Replies the client that gets the invalidations."),
        ("tracking", -3, FREE, "6.0.0", client_tracking, "Switches the tracking of keys that are read."),
        ("trackinginfo", 2, FREE, "6.2.0", client_trackinginfo, "Describes the tracking of keys.")):
    register_python(f"client|{_name}", _arity, _flags, NO_KEYS, _handler,
                    about(_since, "connection", "slow connection", _summary))
