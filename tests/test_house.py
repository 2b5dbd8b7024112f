"""The rules of the house that no other tool holds: who imports whom, sizes, names, and what the papers promise."""

import ast
import re
import shutil
import statistics
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
SOURCE_FOLDERS = ["kakehashi", "modeling", "tokenization", "training", "model_cards"]
SOURCES = sorted(path for folder in SOURCE_FOLDERS for path in (ROOT / folder).rglob("*.py"))
PYTHON_FILES = SOURCES + sorted([*(ROOT / "tests").glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
MODULES = [path for path in SOURCES if path.name not in {"__init__.py", "__main__.py"}]
PAPERS = [path for path in (ROOT / name for name in ("README.md", "README.ja.md", "CONTRIBUTING.md")) if path.exists()]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
# Extras whose packages the sources import: inside functions, or in the page of a Space.
IMPORTED_EXTRAS = ("ctranslate2", "lora", "onnx", "space")
# Text reaches the loss in these files, in this order.
TEXT_TO_LOSS = [
    "training/documents.py",
    "training/examples.py",
    "training/packing.py",
    "training/collators.py",
    "modeling/modeling_kakehashi.py",
]


def relative(path):
    return path.relative_to(ROOT).as_posix()


def parse(path):
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def imported_modules(tree):
    """Full names of the modules that a file imports, inside functions too; relative ones keep their dots."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("." * node.level + (node.module or ""))
    return names


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def code_lines(function):
    """Number of lines of a function without its docstring."""
    total = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return total
    docstring = function.body[0]
    return total - (docstring.end_lineno - docstring.lineno + 1)


def runtime_requirements():
    return [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]


def extra_requirements(*extras):
    return [Requirement(line) for extra in extras for line in PYPROJECT["project"]["optional-dependencies"][extra]]


def pins():
    """The pinned requirements of constraints.txt, two of one name where Python 3.10 needs an older release."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("folder", ["modeling", "tokenization"])
def test_modeling_and_tokenization_import_nothing_of_ours(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for name in imported_modules(parse(path)):
            foreign = name.split(".")[0] == "kakehashi" and not (name + ".").startswith(f"kakehashi.{folder}.")
            assert not foreign, f"{relative(path)} imports {name}"


def test_training_imports_no_command_line():
    allowed = ("kakehashi.modeling", "kakehashi.tokenization", "kakehashi.training", "kakehashi.model_cards")
    for path in (ROOT / "training").rglob("*.py"):
        for name in imported_modules(parse(path)):
            ours = name.split(".")[0] == "kakehashi"
            assert not ours or name.startswith(allowed), f"{relative(path)} imports {name}"


def test_modeling_uses_flat_sibling_imports_and_others_absolute_ones():
    for path in SOURCES:
        for name in imported_modules(parse(path)):
            if name.startswith(".") or (path.parent.name == "modeling" and name.startswith("kakehashi")):
                flat = path.parent.name == "modeling" and re.fullmatch(r"\.\w+", name)
                assert flat, f"{relative(path)} imports {name}: Hub code finds only `from .sibling import name`"


def test_no_file_imports_a_source_folder_by_its_root_name():
    for path in PYTHON_FILES:
        for name in imported_modules(parse(path)):
            assert name.split(".")[0] not in {*SOURCE_FOLDERS} - {"kakehashi"}, (
                f"{relative(path)} imports {name}: write kakehashi.{name}, or every class exists twice"
            )


def test_every_imported_package_is_a_declared_dependency():
    requirements = runtime_requirements() + extra_requirements(*IMPORTED_EXTRAS)
    declared = {canonicalize_name(requirement.name) for requirement in requirements}
    distributions = packages_distributions()
    for path in SOURCES:
        for name in imported_modules(parse(path)):
            top = name.split(".")[0]
            if not top or top == "kakehashi" or top in sys.stdlib_module_names:
                continue
            providers = {canonicalize_name(provider) for provider in distributions.get(top, [top])}
            assert providers & declared, f"{relative(path)} imports {top}, which pyproject.toml does not name"


def test_no_room_for_oddments():
    oddments = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [relative(path) for path in PYTHON_FILES if path.stem in oddments or path.parent.name in oddments] == []
    assert not (ROOT / "tests" / "__init__.py").exists()


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_source_file_has_a_test_file(path):
    folder = path.parent.name
    # The files of a sub-folder, such as the tables of the sample corpus, may share the test of their folder.
    stem = path.stem.removesuffix("_kakehashi")
    names = {f"test_{stem}", f"test_{folder}_{stem}"}
    if path.parent.parent != ROOT:
        names.add(f"test_{folder}")
    found = {test.stem for test in (ROOT / "tests").glob("test_*.py")}
    assert any(test in names or test.startswith(tuple(f"{name}_" for name in names)) for test in found), (
        f"no test file for {relative(path)}: write tests/test_{stem}.py"
    )


def test_files_and_functions_keep_a_readable_size():
    sizes = []
    for path in PYTHON_FILES:
        limit = 700 if path.parent.name == "modeling" else 500
        lines = len(path.read_text("utf-8").splitlines())
        assert lines <= limit, f"{relative(path)} has {lines} lines, more than {limit}"
        for function in functions(parse(path)):
            sizes.append(code_lines(function))
            length = function.end_lineno - function.lineno + 1
            assert length <= 80 or function.name == "forward", f"{relative(path)}: {function.name} has {length} lines"
    assert statistics.median(sizes) <= 12


def test_the_layout_is_explained_in_the_same_words_in_three_places():
    comment = re.search(r"((?:^#.*\n)+)\[tool\.setuptools\.package-dir\]", (ROOT / "pyproject.toml").read_text(), re.M)
    words = " ".join(re.sub(r"^# ?", "", comment.group(1), flags=re.M).split())
    assert "second copy of every class" in words
    assert words in " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert words in " ".join(ast.get_docstring(parse(ROOT / "kakehashi" / "__init__.py")).split())


def test_readme_prints_the_path_from_text_to_loss():
    text = (ROOT / "README.md").read_text("utf-8")
    assert re.search(".*".join(map(re.escape, TEXT_TO_LOSS)), text, re.S), f"README.md lacks {TEXT_TO_LOSS} in order"


@pytest.mark.parametrize("paper", PAPERS, ids=relative)
def test_the_papers_name_only_files_that_exist(paper):
    folders = "|".join([*SOURCE_FOLDERS, "tests", "benchmarks"])
    for name in re.findall(rf"(?<![\w./])((?:{folders})/[\w./-]*)", paper.read_text("utf-8")):
        assert (ROOT / name.rstrip(".")).exists(), f"{relative(paper)} names {name}"


@pytest.mark.parametrize("paper", PAPERS, ids=relative)
def test_the_papers_name_only_commands_that_exist(paper):
    from typer.main import get_command

    from kakehashi.cli import app

    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", paper.read_text("utf-8"), re.S | re.M))
    for name in re.findall(r"^(?:\$ )?make ([a-z]+)", blocks, re.M):
        assert name in targets, f"{relative(paper)} shows `make {name}`"
    for name in re.findall(r"^(?:\$ )?(?:\.venv/bin/)?kakehashi ([a-z-]+)", blocks, re.M):
        assert name in get_command(app).commands, f"{relative(paper)} shows `kakehashi {name}`"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_is_the_default_and_lists_every_target():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M).group(1).split()
    assert {"quickstart", "test", "lint", "types", "bench", "clean"} <= set(phony)
    assert [line.split()[1] for line in listed.splitlines() if line.startswith("make ")] == phony


@pytest.mark.parametrize("python", ["3.10", "3.11"])
def test_every_dependency_is_pinned_inside_the_range_we_declare(python):
    def is_for_it(requirement):
        return requirement.marker is None or requirement.marker.evaluate({"python_version": python})

    pinned = {}
    for pin in filter(is_for_it, pins()):
        assert re.fullmatch(r"==[0-9][0-9A-Za-z.]*", str(pin.specifier)), f"{pin} is not one public version"
        pinned.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier)[2:])
    for requirement in filter(
        is_for_it, runtime_requirements() + extra_requirements("dev", "neighbours", *IMPORTED_EXTRAS)
    ):
        versions = pinned.get(canonicalize_name(requirement.name), [])
        assert len(versions) == 1, f"constraints.txt pins {requirement.name} to {versions} for Python {python}"
        assert requirement.specifier.contains(versions[0]), f"{requirement} but {versions}"


@pytest.mark.parametrize(
    ("name", "version"), [("torch", "2.11.0"), ("transformers", "5.17.0"), ("tokenizers", "0.23.1")]
)
def test_the_range_reaches_what_gpu_machines_run(name, version):
    requirement = next(each for each in runtime_requirements() if each.name == name)
    assert requirement.specifier.contains(version)


def test_no_package_host_address_or_local_path_is_written_down():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    forbidden = re.compile(
        r"pypi\.org|pythonhosted|download\.pytorch\.org|index-url|find-links|file://"
        r"|[\w.+-]+@[\w-]+\.(?:com|org|net|io|jp)\b|==[\w.]+\+\w+"
    )
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path == Path(__file__) or not path.is_file() or path.suffix in {".png", ".gz", ".xz"}:
            continue
        found = forbidden.search(path.read_text("utf-8"))
        assert not found, f"{name} contains {found.group()!r}"
