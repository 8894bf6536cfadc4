"""The cache of compiled kernels notices what numba's own does not."""

import os
import re
import shutil
import subprocess
import sys

import numba
import pytest

from evtsim import _jit


def test_an_edit_anywhere_in_the_kernels_changes_the_folder(tmp_path):
    package = tmp_path / "evtsim"
    shutil.copytree(_jit.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = _jit.fingerprint(package)
    assert before == _jit.fingerprint(_jit.PACKAGE)
    for name in ("kernels/bits.py", "kernels/vcpu.py", "abi.py", "dtypes.py", "trace/_kernels.py"):
        source = package / name
        text = source.read_text()
        source.write_text(text + "\n# edited\n")
        assert _jit.fingerprint(package) != before, name
        source.write_text(text)
    assert _jit.fingerprint(package) == before


def test_bounds_checks_have_a_folder_of_their_own(monkeypatch):
    before = _jit.fingerprint()
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", 0 if numba.config.BOUNDSCHECK else 1)
    assert _jit.fingerprint() != before


CONSTANT = """
import sys
sys.path.insert(0, {path!r})
from evtsim.workloads._kernels.loop import power_of_two
print(power_of_two(1 << 31), sum(power_of_two.stats.cache_misses.values()))
"""


def test_an_edited_constant_is_compiled_anew(tmp_path, monkeypatch):
    """_HALF is a constant in the machine code of a callee: a stale cache would keep it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = tmp_path / "evtsim"
    shutil.copytree(_jit.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))

    def answer():
        script = CONSTANT.format(path=str(tmp_path))
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        power, compiled = map(int, done.stdout.split())
        return power / 2**32, bool(compiled)

    assert answer() == (pytest.approx(2**0.5), True)
    assert answer() == (pytest.approx(2**0.5), False)
    draws = package / "draws.py"
    text = draws.read_text()
    assert text.count("_HALF = np.uint64(0xFFFFFFFF)") == 1
    draws.write_text(text.replace("_HALF = np.uint64(0xFFFFFFFF)", "_HALF = np.uint64(0)"))
    assert answer() == (1, True)


SAID = """
from evtsim import _jit

@_jit.entry
def twice(x):
    return 2 * x

for x in (1, 1.5, 2):
    with _jit.announced():
        assert twice(x) == 2 * x
print(_jit.Announcer.in_all)
"""


def test_compiling_is_said_once_a_process_with_what_all_of_it_took(tmp_path, monkeypatch):
    """Other types are other kernels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = tmp_path / "said.py"
    script.write_text(SAID)
    told = r"evtsim: compiling kernels, once per version…\nevtsim: compiling took ([\d.]+) s\n"
    first, again = (
        subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
        for _ in range(2)
    )
    assert re.fullmatch(told, first.stderr)[1] == f"{float(first.stdout):.1f}"
    assert (again.stderr, again.stdout) == ("", "None\n")


def test_at_a_prompt_every_compilation_is_told(monkeypatch, capsys):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    for _ in range(2):
        with _jit.announced() as announcer:
            numba.njit(lambda x: x + 1)(1)
        assert announcer.seconds > 0
    assert re.fullmatch(
        r"(evtsim: compiling kernels, once per version… [\d.]+ s\n){2}", capsys.readouterr().err
    )


def test_numba_keeps_its_own_cache_folder():
    before = numba.config.CACHE_DIR
    _jit.entry(lambda x: x)
    assert before == numba.config.CACHE_DIR


def test_a_folder_that_cannot_be_made_is_replaced(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(_jit, "cache_root", lambda: blocked / "kernels")
    _jit.cache_folder.cache_clear()
    try:
        folder = _jit.cache_folder()
        assert folder.is_dir()
        assert blocked not in folder.parents
    finally:
        _jit.cache_folder.cache_clear()


def test_without_the_compiler_all_but_kernels_work():
    code = """
import evtsim
trace = evtsim.workloads.generate("channels", records=10)
evtsim.Simulator(trace.host)
print(len(trace))
"""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert (done.stdout, done.stderr) == ("10\n", "")
