"""What the server calls itself."""

VALKEY = "9.1.2"   # whose behaviour this is
REDIS = "7.2.4"    # what INFO and HELLO tell clients of Redis
SLOTRING = "0.1.0"
