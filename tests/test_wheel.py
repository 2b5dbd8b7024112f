"""Source archive and wheel hold what the tree holds, and what is installed from them runs from an empty folder."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
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

# What the source archive holds beside, for whoever changes the package.
FOR_DEVELOPERS = ["benchmarks", "docs", "tests"]
TOP_LEVEL = [
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile", "README.ja.md", "README.md"),
    *("constraints.txt", "pyproject.toml", ".gitattributes"),
]

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


def source_of(name):
    """Where the file that is installed as `name` stands in the tree."""
    folder, installed = next(pair for pair in [*INSTALLED_AS.items()][::-1] if name.startswith(pair[1] + "/"))
    return f"{folder}/{name.removeprefix(installed + '/')}"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of what `python -m build` makes of a copy of the tree: the source archive, and from it the wheel."""
    copy = tmp_path_factory.mktemp("tree")
    for name in TOP_LEVEL:
        shutil.copy(ROOT / name, copy)
    for folder in (*INSTALLED_AS, *FOR_DEVELOPERS):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests" / "__pycache__").mkdir()
    (copy / "tests" / "__pycache__" / "left.pyc").touch()
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", str(copy)], check=True, capture_output=True)
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(built):
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(archive.read(name))


def run_apart(arguments, site, empty):
    """Runs a program that finds kakehashi in `site` alone, from an empty folder."""
    empty.mkdir()
    environment = {"PYTHONPATH": str(site), "PATH": "", "HOME": str(empty), "HF_HUB_OFFLINE": "1"}
    # Without these, Windows starts no Python.
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "USERPROFILE") if name in os.environ}
    ran = subprocess.run(arguments, cwd=empty, env=environment | kept, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert list(empty.iterdir()) == []
    return ran.stdout


def test_the_source_archive_holds_the_tree_with_tests_and_docs_and_nothing_else(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as members:
        names = {member.name.partition("/")[2] for member in members if member.isfile()}
    for_developers = {
        path.relative_to(ROOT).as_posix()
        for folder in FOR_DEVELOPERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    sources = {source_of(name) for name in files_of_the_tree()}
    made = {"PKG-INFO", "setup.cfg", *(name for name in names if name.startswith("kakehashi.egg-info/"))}
    assert names - made == sources | for_developers | set(TOP_LEVEL)


def test_the_wheel_holds_every_file_of_the_tree_and_no_other(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    packaged = {name for name in names if not re.match(r"kakehashi-[^/]*\.dist-info/", name)}
    assert packaged == files_of_the_tree()
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_imports_from_an_empty_folder(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    printed = run_apart([sys.executable, "-c", IMPORT_EVERYTHING, str(site)], site, tmp_path / "empty")
    assert int(printed) > len(INSTALLED_AS)


def test_the_installed_command_runs_from_an_empty_folder(wheel, metadata, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    command = str(site / "bin" / ("kakehashi.exe" if sys.platform == "win32" else "kakehashi"))
    assert run_apart([command, "--version"], site, tmp_path / "one").strip() == metadata["Version"]
    recipes = run_apart([command, "recipes", "list"], site, tmp_path / "two")
    assert {path.name for path in (ROOT / "training" / "recipes").glob("*.yaml")} == set(
        re.findall(r"^\S+", recipes, re.M)
    )


def test_the_metadata_says_for_whom_the_package_is_and_under_which_licence(metadata):
    classifiers = metadata.get_all("Classifier")
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)} <= set(classifiers)
    assert metadata["Requires-Python"] == ">=3.10"
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    # A licence is named once: the index refuses a classifier beside the expression.
    assert not any(each.startswith("License ::") for each in classifiers)
    assert metadata["Description-Content-Type"] == "text/markdown"
    shown = metadata.get_payload(decode=True).decode("utf-8")
    assert shown.strip() == (ROOT / "README.md").read_text("utf-8").strip()
