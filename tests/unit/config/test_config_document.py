"""docs/configuration.md: fresh, complete, and its examples work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlvpn.config import document as page_writer
from mlvpn.config import parse, schema

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page_writer.page(), "run: python -m mlvpn.config.document"


def test_check_tells_a_stale_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "configuration.md"
    monkeypatch.setattr(page_writer, "PAGE", page)
    assert page_writer.main(["--check"]) == 1
    assert page_writer.main([]) == 0
    page.write_text(capsys.readouterr().out, encoding="utf-8")
    assert page_writer.main(["--check"]) == 0
    page.write_text("old", encoding="utf-8")
    assert page_writer.main(["--check"]) == 1
    assert "is stale; run: python -m mlvpn.config.document" in capsys.readouterr().err


@pytest.mark.parametrize("section", [schema.GENERAL, schema.LINK])
def test_every_key_has_its_row_in_the_table_of_its_section(section: str) -> None:
    heading = "## Keys of [general]" if section == schema.GENERAL else "## Keys of a link"
    table = PAGE.read_text(encoding="utf-8").split(heading)[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert rows == [key.name for key in schema.KEYS if key.section == section]


def test_every_row_has_as_many_cells_as_the_heading() -> None:
    rows = [line for line in page_writer.page().splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {6}


def test_the_examples_are_valid_without_a_warning() -> None:
    examples = re.findall(r"```ini\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    files = [example for example in examples if "[general]" in example]
    assert len(files) == 3
    client = files[0]
    for example in [*files, *(client + example for example in examples if "[general]" not in example)]:
        assert parse(example, "example").warnings == ()
