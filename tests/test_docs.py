"""The pages of docs/ point at lines of code and at tests: each link must still hit what it names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\[(?P<label>[^\]]+)\]\(\.\./(?P<path>[\w/.]+)#L(?P<line>\d+)\)")


def wanted(label):
    """What the line must hold: code as it is, the name of a test from its words."""
    return label.strip("`") if label.startswith("`") else "def test_" + label.replace(" ", "_") + "("


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_line_hits_what_it_names(page):
    wrong = []
    for link in LINK.finditer(page.read_text("utf-8")):
        lines = (ROOT / link["path"]).read_text("utf-8").splitlines()
        text = wanted(link["label"])
        if text not in lines[int(link["line"]) - 1]:
            now = next((number for number, line in enumerate(lines, 1) if text in line), "nowhere")
            wrong.append(f"{link['path']}: `{text}` stands at line {now}, not {link['line']}")
    assert not wrong, "\n".join(wrong)


def test_the_architecture_page_maps_every_concept_to_code_and_a_test():
    rows = [line for line in (ROOT / "docs/architecture.md").read_text("utf-8").splitlines() if "../modeling/" in line]
    assert len(rows) > 15
    for row in rows:
        assert len(LINK.findall(row)) == 2, row
