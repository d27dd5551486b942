"""Which test fails when a key of the configuration, or an option of the command line, is read but then ignored.

That each key is *read* is tested one by one in test_config_load.py; the tests named here see what it *does*. The tables
must be complete, and every test in them must exist.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from mlvpn.cli import command_line
from mlvpn.config import schema

TESTS = Path(__file__).parents[2]

IN_A_DAEMON = "lab/test_keys_in_a_daemon.py"
LIFE = "lab/test_daemon_life.py"
MLVPN1 = "unit/core/mlvpn1/test_mlvpn1_tunnel.py"
NATIVE = "lab/test_native_tunnel.py"
SCHEDULER = "unit/core/test_scheduler.py"
OPTIONS = "unit/cli/test_command_line.py"
LOG = "unit/daemon/test_log.py"

TO_THE_SCRIPT = [f"{IN_A_DAEMON}::test_what_is_handed_to_the_script"]
RECONNECTS = f"{LIFE}::test_reload_applies_the_difference"

KEYS: dict[tuple[str, str], list[str]] = {
    ("general", "mode"): [f"{LIFE}::test_the_script_is_called_as_mlvpn_calls_it"],
    ("general", "protocol"): [
        f"{IN_A_DAEMON}::test_the_interface_is_as_named_and_of_the_kind_asked_for",
        "interop/test_mlvpn_c.py::test_ping_and_tcp_both_ways",
    ],
    ("general", "password"): [
        f"{LIFE}::test_new_keys_begin_anew",
        f"{MLVPN1}::test_a_wrong_password_connects_nothing_and_says_so_once_a_minute",
    ],
    ("general", "private_key"): [f"{NATIVE}::test_key_pairs_in_place_of_the_password"],
    ("general", "peer_key"): [f"{NATIVE}::test_key_pairs_in_place_of_the_password"],
    ("general", "psk"): [f"{IN_A_DAEMON}::test_another_psk_connects_nothing"],
    ("general", "cleartext_data"): [
        f"{NATIVE}::test_data_is_on_the_wire_in_the_clear_only_when_asked",
        f"{MLVPN1}::test_a_packet_is_carried_whole_or_not_at_all",
    ],
    ("general", "timeout"): [
        "unit/core/test_peer_close.py::test_a_silent_end_is_announced_after_timeout",
        f"{MLVPN1}::test_a_cut_link_leaves_the_rotation_at_once_and_goes_down_at_its_timeout",
    ],
    ("general", "loss_tolerence"): [
        f"{SCHEDULER}::test_links_beyond_their_tolerance_are_shunned_while_others_are_fit",
        f"{MLVPN1}::test_a_link_above_its_loss_tolerance_leaves_the_rotation_until_it_is_better",
    ],
    ("general", "latency_tolerence"): [
        f"{SCHEDULER}::test_links_beyond_their_tolerance_are_shunned_while_others_are_fit",
        f"{MLVPN1}::test_a_link_above_its_latency_tolerance_is_slow",
    ],
    ("general", "reorder_buffer_size"): [
        f"{MLVPN1}::test_without_a_reorder_buffer_packets_are_delivered_as_they_come",
        f"{MLVPN1}::test_packets_of_two_links_are_put_in_order",
    ],
    ("general", "statuscommand"): [f"{LIFE}::test_the_script_is_called_as_mlvpn_calls_it"],
    ("general", "interface_name"): [f"{IN_A_DAEMON}::test_the_interface_is_as_named_and_of_the_kind_asked_for"],
    ("general", "tuntap"): [f"{IN_A_DAEMON}::test_the_interface_is_as_named_and_of_the_kind_asked_for"],
    ("general", "mtu"): TO_THE_SCRIPT,
    ("general", "ip4"): TO_THE_SCRIPT,
    ("general", "ip6"): TO_THE_SCRIPT,
    ("general", "ip4_gateway"): TO_THE_SCRIPT,
    ("general", "ip6_gateway"): TO_THE_SCRIPT,
    ("general", "ip4_routes"): TO_THE_SCRIPT,
    ("general", "ip6_routes"): TO_THE_SCRIPT,
    ("general", "control_unix_path"): [f"{IN_A_DAEMON}::test_where_status_is_served"],
    ("general", "control_bind_host"): [f"{IN_A_DAEMON}::test_where_status_is_served"],
    ("general", "control_bind_port"): [f"{IN_A_DAEMON}::test_where_status_is_served"],
    ("link", "bindhost"): [f"{IN_A_DAEMON}::test_links_go_from_where_to_where_they_should"],
    ("link", "bindport"): [f"{IN_A_DAEMON}::test_links_go_from_where_to_where_they_should", RECONNECTS],
    ("link", "bindinterface"): ["lab/test_link_sockets.py::test_interface_binding_decides_the_way"],
    ("link", "bindfib"): ["unit/config/test_config_messages.py::test_what_is_valid_but_seldom_meant_is_warned_of"],
    ("link", "remotehost"): [f"{IN_A_DAEMON}::test_links_go_from_where_to_where_they_should"],
    ("link", "remoteport"): [f"{IN_A_DAEMON}::test_links_go_from_where_to_where_they_should", RECONNECTS],
    ("link", "bandwidth_upload"): [
        f"{MLVPN1}::test_links_are_loaded_by_their_bandwidth_upload",
        "unit/core/test_bandwidth_ceiling.py::test_a_link_never_sends_faster_than_its_bandwidth_upload",
    ],
    ("link", "timeout"): [
        f"{MLVPN1}::test_a_cut_link_leaves_the_rotation_at_once_and_goes_down_at_its_timeout",
        "unit/config/test_config_load.py::test_links_inherit_from_general_what_they_do_not_set_wherever_general_stands",
    ],
    ("link", "loss_tolerence"): [
        f"{MLVPN1}::test_a_link_above_its_loss_tolerance_leaves_the_rotation_until_it_is_better"
    ],
    ("link", "latency_tolerence"): [f"{MLVPN1}::test_a_link_above_its_latency_tolerance_is_slow"],
    ("link", "fallback_only"): [
        f"{SCHEDULER}::test_fallback_links_wait_for_the_others_to_go",
        f"{MLVPN1}::test_a_fallback_link_is_used_only_when_no_other_is_up",
    ],
    ("filters", ""): [
        f"{LIFE}::test_filters_are_compiled_by_the_parent_and_run_by_the_worker",
        "unit/core/test_filtered.py::test_what_matches_goes_over_its_link_and_nothing_else_does",
        f"{MLVPN1}::test_a_filter_chooses_the_link_while_it_is_up",
    ],
}

COMMAND_LINE: dict[str, list[str]] = {
    "config": [f"{OPTIONS}::test_file_and_name"],
    "user": [f"{LIFE}::test_the_worker_has_nothing_left_to_lose", f"{LIFE}::test_as_root_it_needs_to_be_told"],
    "name": [f"{LIFE}::test_titles_tell_the_links_newest_first"],
    "natural_title": [f"{LIFE}::test_natural_titles_are_left_alone"],
    "debug": [
        f"{LOG}::test_a_debug_line_has_time_level_and_token",
        f"{LOG}::test_syslog_lines_carry_priority_program_and_pid",
    ],
    "tokens": [f"{LOG}::test_what_is_shown", f"{OPTIONS}::test_mlvpns_own_options"],
    "verbose": [f"{LOG}::test_what_is_shown", f"{OPTIONS}::test_mlvpns_own_options"],
    "quiet": [f"{LOG}::test_what_is_shown", f"{OPTIONS}::test_mlvpns_own_options"],
    "yes_run_as_root": [f"{LIFE}::test_as_root_when_told"],
    "version": [f"{OPTIONS}::test_version"],
    "help": [f"{OPTIONS}::test_help_names_every_command"],
}


@cache
def defined_in(name: str) -> set[str]:
    tree = ast.parse((TESTS / name).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_table_of_keys_is_complete() -> None:
    assert KEYS.keys() == {(key.section, key.name) for key in schema.KEYS} | {("filters", "")}


def test_the_table_of_options_is_complete() -> None:
    options = {option.name for option in command_line.params} | {"help"}
    assert COMMAND_LINE.keys() == options


@pytest.mark.parametrize("name", sorted({name for names in [*KEYS.values(), *COMMAND_LINE.values()] for name in names}))
def test_every_test_named_exists(name: str) -> None:
    file, _, function = name.partition("::")
    assert function in defined_in(file)
