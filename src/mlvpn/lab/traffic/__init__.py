"""The traffic tools: one process per end of a flow, run inside a host, reporting as JSON lines on stdout.

    python -m mlvpn.lab.traffic tcp-receive ADDRESS PORT --seconds S [--flows N] [--congestion NAME] [--connect]
    python -m mlvpn.lab.traffic tcp-send    ADDRESS PORT --seconds S [--flows N] [--congestion NAME] [--connect]
    python -m mlvpn.lab.traffic udp-receive ADDRESS PORT
    python -m mlvpn.lab.traffic udp-send    ADDRESS PORT --seconds S --rate-bps R [--size-bytes B]
    python -m mlvpn.lab.traffic echo        ADDRESS [--seconds S] [--interval-ms I] [--size-bytes B] [--first]
    python -m mlvpn.lab.traffic watch       INTERFACE [--seconds S]

The end that listens prints ``{"ready": true}`` first. A tool that receives prints a line per 100 ms, and every tool its
summary as the last line, also when ended by TERM. Times are of the machine's monotonic clock, which all namespaces
share, so one-way latencies are true. ``mlvpn.lab.measure`` starts these tools and reads their reports.
"""
