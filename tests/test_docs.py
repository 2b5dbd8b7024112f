"""The pages of docs/ point at lines of code and at tests: each must stand where the page says, once."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\[(?P<label>[^\]]+)\]\(\.\./(?P<path>[\w/]+\.py)\)")


def quoted(label):
    """What the file must hold: code as it is, the name of a test from its words."""
    return label.strip("`") if label.startswith("`") else f"def test_{label.replace(' ', '_')}("


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_line_that_a_page_points_at_stands_in_its_file_once(page):
    for link in LINK.finditer(page.read_text("utf-8")):
        text = quoted(link["label"])
        pattern = re.escape(text) + (r"\b" if text[-1].isalnum() else "")
        lines = (ROOT / link["path"]).read_text("utf-8").splitlines()
        found = [line for line in lines if re.search(pattern, line)]
        assert len(found) == 1, f"{link['path']}: {text!r} stands in {len(found)} lines"


def test_the_architecture_page_maps_every_concept_to_code_and_a_test():
    rows = [line for line in (ROOT / "docs/architecture.md").read_text("utf-8").splitlines() if line.count("../") == 2]
    assert len(rows) > 20
    for row in rows:
        code, test = LINK.findall(row)
        assert code[0].startswith("`"), row
        assert test[1].startswith("tests/"), row


def test_the_page_of_neighbours_has_a_test_in_every_row_and_a_row_for_every_test_file():
    text = (ROOT / "docs/neighbours.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 15 and all(len(LINK.findall(row)) == 1 for row in rows)
    linked = {path.removeprefix("tests/") for _, path in LINK.findall(text)}
    files = {path.name for path in [*ROOT.glob("tests/test_with_*.py"), *ROOT.glob("tests/test_pipelines*.py")]}
    assert files <= linked


@pytest.mark.parametrize("name", ["README.md", "README.ja.md"])
def test_every_file_that_a_readme_links_to_is_there(name):
    links = re.findall(r"\]\(([\w./-]+)\)", (ROOT / name).read_text("utf-8"))
    assert sum(link.startswith("tests/") for link in links) > 10
    assert all((ROOT / link).exists() for link in links)
