#!/bin/sh
# A status script: gives the tunnel's interface its addresses and routes when the first link is up, and takes them away
# when the last one is down. Install it so that nobody but root can change it:
#
#   install -o root -g root -m 700 mlvpn_updown.sh /etc/mlvpn/updown.sh
#
# Called as root: SCRIPT INTERFACE tuntap_up|tuntap_down, SCRIPT INTERFACE rtun_up|rtun_down LINK.
# In the environment, from the configuration: MTU, IP4, IP6, IP4_GATEWAY, IP6_GATEWAY, IP4_ROUTES, IP6_ROUTES.
#
# A route for everything (0.0.0.0/0) would also catch the tunnel's own datagrams: give each link a route of its own to
# the server first, or bind the links to their interfaces (bindinterface).
set -eu
interface=$1
event=$2
link=${3:-}

family_up() { # 4|6 ADDRESS GATEWAY ROUTES
    [ -z "$2" ] || ip "-$1" address replace "$2" dev "$interface"
    for route in $4; do
        # shellcheck disable=SC2086 # without a gateway there is no "via"
        ip "-$1" route replace "$route" ${3:+via "$3"} dev "$interface"
    done
}

case $event in
    tuntap_up)
        ip link set dev "$interface" mtu "${MTU:-1432}" up
        family_up 4 "${IP4:-}" "${IP4_GATEWAY:-}" "${IP4_ROUTES:-}"
        family_up 6 "${IP6:-}" "${IP6_GATEWAY:-}" "${IP6_ROUTES:-}"
        ;;
    tuntap_down)
        # Routes through the interface go with its addresses.
        ip link set dev "$interface" down
        ip address flush dev "$interface"
        ;;
    rtun_up | rtun_down)
        echo "mlvpn: $interface: $event $link"
        ;;
esac
