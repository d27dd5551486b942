"""What keys do in a running daemon that no smaller test sees; the table of all is unit/config/test_every_key.py."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from test_daemon_life import CLIENT, MLVPN, SERVER, Daemon, Place, place, wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="needs /dev/net/tun"),
]
__all__ = ["place"]

HANDED_ON = {
    "ip4": "10.8.0.3/24",
    "ip6": "fd08::3/64",
    "ip4_gateway": "10.8.0.9",
    "ip6_gateway": "fd08::9",
    "ip4_routes": "192.0.2.0/24 198.51.100.0/24",
    "ip6_routes": "2001:db8:1::/48 2001:db8:2::/48",
    "mtu": "1333",
}


def general(text: str, **settings: str) -> str:
    """Set keys of [general], in place of what is set there."""
    lines = [line for line in text.splitlines() if line.partition(" ")[0] not in settings]
    at = lines.index("[general]") + 1
    return "\n".join([*lines[:at], *(f'{key} = "{value}"' for key, value in settings.items()), *lines[at:], ""])


def both_up(place: Place, server_text: str, client_text: str) -> tuple[Daemon, Daemon]:
    server, client = place.start("srv", server_text), place.start("cli", client_text)
    server.wait_up("link1", "link2")
    client.wait_up("link1", "link2")
    return server, client


def test_what_is_handed_to_the_script(place: Place) -> None:
    both_up(place, general(SERVER, **HANDED_ON, interface_name="bond7"), CLIENT)
    calls = wait_for(place.script_calls, "a call")
    for key, value in {**HANDED_ON, "device": "bond7"}.items():
        assert f"{key.upper()}={value} " in calls[0]
    assert calls[0].endswith("args: bond7 rtun_up link1") or calls[0].endswith("args: bond7 rtun_up link2")


@pytest.mark.parametrize(("kind", "protocol"), [("tun", "native"), ("tap", "native"), ("tap", "mlvpn1")])
def test_the_interface_is_as_named_and_of_the_kind_asked_for(place: Place, kind: str, protocol: str) -> None:
    keys = {"tuntap": kind, "protocol": protocol}
    server, _ = both_up(place, general(SERVER, **keys, interface_name="bond7"), general(CLIENT, **keys))
    assert server.ask("status")["protocol"] == protocol
    shown = subprocess.run(["ip", "-d", "-j", "link", "show", "bond7"], capture_output=True, text=True, check=True)
    (device,) = json.loads(shown.stdout)
    assert device["linkinfo"]["info_data"]["type"] == kind
    assert (device["link_type"] == "ether") is (kind == "tap")


def test_where_status_is_served(place: Place, tmp_path: Path) -> None:
    keys = {"control_bind_host": "127.0.0.2", "control_bind_port": "1040", "control_unix_path": f"{tmp_path}/here.sock"}
    server = place.start("srv", general(SERVER, **keys))
    server.wait_running()
    assert not server.socket_path.exists()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(keys["control_unix_path"])
        client.sendall(b"metrics\nquit\n")
        assert client.makefile().read().endswith("bye.")

    def fetched() -> Any:
        try:
            with urllib.request.urlopen("http://127.0.0.2:1040/status", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    assert wait_for(fetched, "HTTP")["tuntap"]["name"] == "mlvpn0"
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", 1040)):
        pass


def test_links_go_from_where_to_where_they_should(place: Place) -> None:
    bound = CLIENT.replace('bindhost = "10.3.2.1"', 'bindhost = "10.3.2.1"\nbindport = 4242')
    server, client = both_up(place, SERVER, bound)
    ends = {link["name"]: (link["local"], link["remote"]) for link in client.ask("status")["links"]}
    assert ends["link2"] == ("10.3.2.1:4242", "10.3.2.2:5082")
    assert ends["link1"][0].startswith("10.3.1.1:") and ends["link1"][1] == "10.3.1.2:5081"
    assert {link["remote"] for link in server.ask("status")["links"]} == {ends["link1"][0], "10.3.2.1:4242"}


def test_another_psk_connects_nothing(place: Place) -> None:
    def made(command: str, text: str = "") -> str:
        mlvpn = [*MLVPN, command]
        return subprocess.run(mlvpn, input=text, capture_output=True, text=True, check=True).stdout.strip()

    private = {"srv": made("genkey"), "cli": made("genkey")}
    public = {name: made("pubkey", key) for name, key in private.items()}
    psk, other = made("genpsk"), made("genpsk")

    def text(name: str, base: str, secret: str) -> str:
        keys = {"private_key": private[name], "peer_key": public["cli" if name == "srv" else "srv"], "psk": secret}
        return general("\n".join(line for line in base.splitlines() if not line.startswith("password")), **keys)

    server, client = place.start("srv", text("srv", SERVER, psk)), place.start("cli", text("cli", CLIENT, other))
    server.wait_running()
    client.wait_running()
    wait_for(lambda: client.ask("status")["drops"]["handshake_not_authentic"], "a handshake that fails")
    assert "peer authenticated" not in client.log
    client.config.write_text(client.config.read_text().replace(other, psk))
    client.ask("reload")
    client.wait_up("link1", "link2")
