"""MIGRATE: its arguments. What it does is in net/migrate.py."""

from engine.command import register_python

from net import bridge, migrate, router
from net.commands.common import about, integer, syntax_error
from net.reply import Error

DEFAULT_TIMEOUT_MS = 1000


def parse(client: object, args: list[bytes]) -> migrate.Job:
    """MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS key ...]"""
    job = migrate.Job(args[1], args[2], client.db, 0, 0, [args[3]])
    at = 6
    while at < len(args):
        word, left = args[at].lower(), len(args) - at - 1
        if word == b"copy":
            job.copy = True
        elif word == b"replace":
            job.replace = True
        elif word == b"auth" and left >= 1:
            job.auth = [args[at + 1]]
            at += 1
        elif word == b"auth2" and left >= 2:
            job.auth = args[at + 1:at + 3]
            at += 2
        elif word == b"keys":
            if args[3]:
                raise Error("ERR When using MIGRATE KEYS option, the key argument must be set to the empty string")
            job.keys = args[at + 1:]
            break
        else:
            raise syntax_error()
        at += 1
    job.timeout_ms = integer(args[5])
    job.target_db = integer(args[4])
    if job.timeout_ms <= 0:
        job.timeout_ms = DEFAULT_TIMEOUT_MS
    return job


def run(client: object, args: list[bytes]) -> object:
    """MIGRATE: in another thread, while its client waits; in a transaction at once."""
    job = parse(client, args)
    if client.in_exec:
        return migrate.run(job)
    deferred = bridge.defer(client)
    migrate.start(job, lambda reply: bridge.answer(deferred, reply))
    return bridge.NOTHING


router.find_keys_of_migrate(register_python("migrate", -6, "write", (3, 3, 1), run, about(
    "2.6.0", "generic", "dangerous keyspace slow write", "Gives keys to another server.",
    "O(N), N the size of the values, here and at the target") | {"tips": "nondeterministic_output"})["id"])
