"""Which reports of a link are worth a look: each comes over one or two links, of different delay."""

from __future__ import annotations

from some_links import links_up

from mlvpn.wire.frame import LinkReport

REPORT = LinkReport(0, 20, 0, 5000, 700, 650, 20_000, 19, [(7, 7)])


def test_a_copy_is_no_news() -> None:
    link = links_up(10, capacity_bps=1e7)[0]
    assert link.is_news(REPORT)
    assert not link.is_news(REPORT)


def test_nor_is_a_report_that_a_newer_one_has_overtaken() -> None:
    link = links_up(10, capacity_bps=1e7)[0]
    assert link.is_news(REPORT._replace(highest=30, received_datagrams=29))
    assert not link.is_news(REPORT)


def test_another_gap_is_news_though_nothing_more_has_come() -> None:
    link = links_up(10, capacity_bps=1e7)[0]
    assert link.is_news(REPORT._replace(highest=6, missing=[]))
    assert link.is_news(REPORT)
