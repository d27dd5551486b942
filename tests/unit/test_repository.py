"""What must hold for the repository as a whole: readable sizes, no traces of one machine, pages that tell the truth."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pages
import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "mlvpn").rglob("*.py")) + sorted((ROOT / "src" / "mlvpn").rglob("*.[ch]"))
LONGEST_LINES = 450
VAGUE = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "base"}
TRACES = {
    "a path of one machine": re.compile(r"/(work|home/\w+|Users/\w+)/"),
    "a registry or mirror of one network": re.compile(r"(?i)\b(nexus|artifactory|devpi|index-url|extra-index)\b"),
    "a key": re.compile(r"BEGIN (RSA |EC |OPENSSH )?PRIVATE KEY"),
    "something left to do": re.compile(r"\b(TODO|FIXME|XXX)\b"),
}


def tracked() -> list[Path]:
    """Return the repository's text files; those of the work tree where there is no git."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git work tree")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src" / "mlvpn")))
def test_files_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_LINES
    assert path.stem not in VAGUE, "name a file after what it is about"


def test_every_file_says_what_it_is_about() -> None:
    silent = [path for path in SOURCES if not path.read_text(encoding="utf-8").lstrip().startswith(('"""', "/*"))]
    assert not silent


@pytest.mark.parametrize("what", TRACES)
def test_nothing_of_one_machine_stands_in_the_repository(what: str) -> None:
    found = []
    for path in tracked():
        if path == Path(__file__):
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{n}: {line}" for n, line in enumerate(lines, 1) if TRACES[what].search(line)
        ]
    assert not found, f"{what}: {found}"


def test_the_architecture_page_has_a_line_for_every_file() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    files = {str(path.relative_to(ROOT / "src" / "mlvpn")) for path in SOURCES} - {"wire/__init__.py"}
    files = {name for name in files if (ROOT / "src" / "mlvpn" / name).stat().st_size > 200}
    assert not files - named, f"docs/architecture.md says nothing of {sorted(files - named)}"
    gone = {name for name in named if name.endswith((".py", ".c", ".h"))} - {
        str(path.relative_to(ROOT / "src" / "mlvpn")) for path in SOURCES
    }
    assert not gone, f"docs/architecture.md names files that do not exist: {sorted(gone)}"


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"], ids=lambda page: page.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} leads to {target}, which does not exist"


def test_code_that_pages_name_exists() -> None:
    for page in [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CHANGELOG.md"]:
        for name in re.findall(
            r"`((?:src|tests|bench|tools|packaging|docs)/[\w./-]+)`", page.read_text(encoding="utf-8")
        ):
            assert (ROOT / name).exists(), f"{page.name} names {name}, which does not exist"


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: page.name)
def test_generated_pages_are_fresh(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == pages.pages()[page], "run: make docs"
