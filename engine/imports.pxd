# Import mode (the setting import-mode): one more bit of Session.flags beside those of engine/command.pxd.
cdef enum:
    S_IMPORT = 16              # CLIENT IMPORT-SOURCE on: sees expired keys
