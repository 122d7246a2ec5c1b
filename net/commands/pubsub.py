"""PUBSUB: the container's own row and HELP; the rest is net/subscribe.pyx."""

from net.commands.common import register_container, register_help

HELP = [
    ("CHANNELS [<pattern>]", "Lists the channels that have subscribers, all or those that match."),
    ("NUMPAT", "Counts the patterns that have subscribers."),
    ("NUMSUB [<channel> ...]", "Counts the subscribers of channels; those by patterns not."),
    ("SHARDCHANNELS [<pattern>]", "As CHANNELS, of shard channels."),
    ("SHARDNUMSUB [<shardchannel> ...]", "As NUMSUB, of shard channels."),
]

register_container("pubsub", "2.8.0", "pubsub", "Holds the commands that look at subscriptions.")
register_help("pubsub", "6.2.0", "pubsub", "slow", HELP)
