"""The pure core: no sockets, no clock, no randomness but what is passed in."""
