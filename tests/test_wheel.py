"""The wheel holds what the tree holds, and imports from an empty folder."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Source folder to the folder it is installed as.
INSTALLED_AS = {
    "kakehashi": "kakehashi",
    "model_cards": "kakehashi/model_cards",
    "modeling": "kakehashi/modeling",
    "tokenization": "kakehashi/tokenization",
    "training": "kakehashi/training",
}

IMPORT_EVERYTHING = """
import importlib, pathlib, pkgutil, sys
import kakehashi
names = ["kakehashi"] + [module.name for module in pkgutil.walk_packages(kakehashi.__path__, "kakehashi.")]
for name in names:
    if not name.endswith("__main__"):
        module = importlib.import_module(name)
        assert module.__file__.startswith(sys.argv[1]), f"{name} was imported from {module.__file__}"
print(len(names))
"""


def files_of_the_tree():
    """Every file that a user of the wheel needs, under the name it is installed as."""
    files = set()
    for folder, target in INSTALLED_AS.items():
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT / folder)
            # The card of one released model stays in the repository: it goes to the Hub with that model.
            released_card = folder == "model_cards" and len(inside.parts) > 1
            if path.is_file() and "__pycache__" not in inside.parts and not released_card:
                files.add(f"{target}/{inside.as_posix()}")
    return files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel built from a copy of the tree, since a build leaves its files beside the sources."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ["pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, copy)
    for folder in INSTALLED_AS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(copy / "dist"), str(copy)], check=True)
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_tree_and_no_other(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    packaged = {name for name in names if not re.match(r"kakehashi-[^/]*\.dist-info/", name)}
    assert packaged == files_of_the_tree()
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_imports_from_an_empty_folder(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(site)
    empty.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING, str(site)],
        cwd=empty,
        env={"PYTHONPATH": str(site), "PATH": "", "HOME": str(empty), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > len(INSTALLED_AS)
    assert list(empty.iterdir()) == []
