"""The package as a whole: imports, examples, house rules."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import evtsim

PACKAGE = Path(evtsim.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("numba", "pandas", "pyarrow", "matplotlib", "numpy")


def modules_after(code):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_evtsim_imports_nothing_heavy():
    assert not modules_after("import evtsim, evtsim.cli.app") & set(HEAVY)


def test_the_summary_of_a_replay_needs_no_pandas():
    code = (
        "import evtsim; t = evtsim.workloads.generate('channels', records=100);"
        "evtsim.replay(t).totals()"
    )
    assert not modules_after(code) & {"pandas", "matplotlib"}


def test_every_public_name_is_there():
    for name in evtsim.__all__:
        assert getattr(evtsim, name) is not None
    assert set(evtsim.__all__) <= set(dir(evtsim))
    assert callable(evtsim.verify)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        evtsim.nothing


@pytest.mark.parametrize(
    "name",
    ["evtsim.trace.builder", "evtsim.simulator", "evtsim.interop.dumps", "evtsim.fleet.specs"],
)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_what_the_readme_shows_works_when_pasted():
    text = (PACKAGE.parent / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Answer(rc=0, port=1, effects=SET|SELECTED|KICK)" in done.stdout


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_kernels_import_nothing_but_the_tables():
    allowed = (
        "numba",
        "numpy",
        "llvmlite",
        "evtsim.abi",
        "evtsim.dtypes",
        "evtsim._jit",
        "evtsim.kernels",
    )
    for path in (PACKAGE / "kernels").glob("*.py"):
        for name in imports_of(path):
            assert name == "evtsim" or name.startswith(allowed), f"{path.name} imports {name}"


def test_only_the_simulator_its_threads_and_its_eye_call_kernels():
    for path in MODULES:
        room = path.relative_to(PACKAGE).parts[0]
        if room not in ("kernels", "simulator.py", "crew.py", "watching.py"):
            assert not [n for n in imports_of(path) if n.startswith("evtsim.kernels")], path


def test_nothing_refers_to_what_lies_outside():
    root = PACKAGE.parent
    for path in [
        *MODULES,
        *root.glob("docs/*.md"),
        *root.glob("*.md"),
        *root.glob("tests/**/*.py"),
    ]:
        assert "../" + "shared" not in path.read_text(), path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_of_a_readable_length(path):
    assert len(path.read_text().splitlines()) <= 550
