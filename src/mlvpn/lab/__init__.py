"""The lab: hosts, links and an emulated wide-area network in network namespaces, real daemons and real traffic on them.

In the order of use: ``topology`` builds hosts and links, ``emulator`` (model in ``channel``, steered through ``wan``)
makes the links slow, long and lossy, ``daemons`` starts real daemons with real configuration files, ``measure`` runs
the tools of ``traffic`` between hosts, ``scenario`` reads all of that from a small TOML file, ``demo`` is the tour.

The lab needs root and Linux; it talks to daemons only through files, sockets and processes.
"""
