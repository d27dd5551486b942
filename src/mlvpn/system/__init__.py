"""The only place that touches the kernel: privileges, devices, sockets, netlink, the service manager."""
