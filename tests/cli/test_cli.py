"""The command line as a shell sees it."""

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time

import pytest

import evtsim
from evtsim import samples, workloads
from tests.commands import assert_refused, evtsim_command, evtsim_process

SAMPLE = str(samples.path("xen-4.0-default.arrow"))


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "t.arrow"
    workloads.generate("channels", records=5000, domains=8).save(path)
    return str(path)


def with_cpu_seconds(run):
    """What a call returned, and the CPU time that processes took which it waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return result, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_seconds(*command, rounds=4):
    """The least CPU time that a command took: on a busy machine the clock says little."""

    def run():
        subprocess.run([sys.executable, *command], capture_output=True, check=True)

    return min(with_cpu_seconds(run)[1] for _ in range(rounds))


@pytest.fixture(scope="module")
def imports():
    """What this machine needs to import what a replay cannot do without: some 0.4 s."""
    return cpu_seconds("-c", "import numba, numpy, pyarrow")


def test_help_is_quick(imports):
    assert cpu_seconds("-m", "evtsim", "--help") < min(0.3, 0.75 * imports)
    assert "replay" in evtsim_process("--help").stdout


def test_a_warm_replay_is_quick(trace, imports):
    evtsim_process("replay", trace)
    assert cpu_seconds("-m", "evtsim", "replay", trace) < 3.5 * imports  # 2.5 on an idle machine
    assert "compiling" not in evtsim_process("replay", trace).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", SAMPLE],
        ["verify", SAMPLE, "--json"],
        ["convert", SAMPLE, "-"],
        ["validate", SAMPLE, "--strict"],
        ["replay", "missing.arrow"],
        ["generate", "channels", "nowhere/x.arrow"],
    ],
)
def test_a_process_answers_as_a_call_does(arguments):
    """Most tests call the commands in their own process."""
    called, done = evtsim_command(*arguments), evtsim_process(*arguments)
    assert called.returncode == done.returncode
    assert called.stderr == done.stderr
    assert called.stdout == done.stdout


def test_a_process_refuses_what_is_no_command():
    assert_refused(evtsim_process("sing"), "sing", "--help")


def test_version():
    assert evtsim_process("--version").stdout == f"evtsim {evtsim.__version__}\n"


def test_demo(tmp_path):
    done = evtsim_process("demo", "--records", "20000", cwd=tmp_path)
    assert done.returncode == 0
    assert "all 2,500 records agree" in done.stdout
    assert "20,000 replayed" in done.stdout
    folder = tmp_path / "evtsim-demo"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "mixed.arrow" in page
    assert evtsim.Run.load(folder / "mixed.run").records == 20_000
    assert [path.read_bytes()[1:4] for path in folder.glob("*.png")] == [b"PNG"] * 4
    line = next(line for line in done.stdout.splitlines() if "evtsim report" in line)
    tried = evtsim_command(*line.split()[1:], cwd=tmp_path)
    assert tried.returncode == 0, tried
    assert (tmp_path / "late.html").exists()
    again = evtsim_command("demo", "--records", "20000", cwd=tmp_path)
    assert again.returncode == 0
    assert (folder / "report.html").read_text(encoding="utf-8") == page
    (folder / "mine.txt").write_text("mine")
    assert_refused(evtsim_command("demo", cwd=tmp_path), "evtsim-demo: has other files, mine.txt")
    done = evtsim_command("demo", "-o", "late.html", cwd=tmp_path)
    assert_refused(done, "late.html: is a file (expected a folder)")


def test_report_of_a_trace_and_of_a_saved_run(trace, tmp_path):
    page, folder = tmp_path / "r.html", str(tmp_path / "run")
    done = evtsim_command("report", trace, "-o", str(page))
    assert done.returncode == 0
    assert done.stdout.startswith(f"{page}: ")
    assert done.stderr == ""
    first = page.read_text(encoding="utf-8")
    assert_refused(evtsim_command("report", trace, "-o", str(page)), "exists already", "--force")
    assert evtsim_command("replay", trace, "--save", folder).returncode == 0
    assert evtsim_command("report", folder, "-o", str(page), "--force").returncode == 0
    assert page.read_text(encoding="utf-8") == first
    done = evtsim_command(
        *("report", trace, "-o", str(tmp_path / "g.html"), "--title", "Mine"),
        *("--guest", "lowest", "--wake", "3us", "--drain"),
    )
    assert done.returncode == 0
    page = (tmp_path / "g.html").read_text(encoding="utf-8")
    assert "<h1>Mine</h1>" in page
    assert "Constant(ns=3000)" in page
    done = evtsim_command("report", folder, "-o", str(tmp_path / "x.html"), "--guest", "linux")
    assert_refused(done, "is a run that has its host and guest")


def test_info(trace):
    done = evtsim_command("info", trace, "--json")
    facts = json.loads(done.stdout)
    assert facts["records"] == 5000
    assert sum(facts["operations"].values()) == 5000
    assert facts["digest"] == evtsim.Trace.load(trace).digest()
    assert "send" in evtsim_command("info", trace).stdout


def test_replay_writes_outcomes_and_state(trace, tmp_path):
    out, ports, state = (str(tmp_path / name) for name in ("out.parquet", "ports.csv", "state"))
    done = evtsim_command("replay", trace, "--outcomes", out, "--state", ports, "--json")
    totals = json.loads(done.stdout)
    assert totals["records"] == 5000
    assert totals["errors"] == 0
    assert done.stderr == ""
    assert evtsim_command("verify", out).returncode == 0
    assert (tmp_path / "ports.csv").read_text().startswith("dom,port,state,notify_vcpu")
    assert evtsim_command("replay", trace, "--state", state).returncode == 0
    assert evtsim.Simulator.load(state).records == 5000
    assert_refused(evtsim_command("replay", trace, "--state", state), "exists already", "--force")
    assert evtsim_command("replay", trace, "--state", state, "--force").returncode == 0
    late = evtsim_command("replay", trace, "--from", state)
    assert_refused(late, "begins before the last record applied")


def test_a_replay_goes_on_from_a_checkpoint(tmp_path):
    whole = workloads.generate("channels", records=3000, domains=4)
    first, rest, state, out = (str(tmp_path / n) for n in ("a.arrow", "b.arrow", "s", "o.arrow"))
    whole[:2000].save(first)
    whole[2000:].save(rest)
    assert evtsim_command("replay", first, "--state", state).returncode == 0
    done = evtsim_command("replay", rest, "--from", state, "--outcomes", out, "--json")
    assert json.loads(done.stdout)["records"] == 3000
    got = evtsim.Trace.load(out).recorded.effects
    assert got.tolist() == evtsim.replay(whole).outcomes.effects[2000:].tolist()
    other = str(tmp_path / "h.json")
    evtsim.Host.uniform(3).to_json(other)
    done = evtsim_command("replay", rest, "--from", state, "--host", other)
    assert_refused(done, "is of another host")


def test_verify_says_what_differs(tmp_path):
    text = evtsim_command("convert", SAMPLE, "-").stdout.splitlines(keepends=True)
    assert "out_rc" in text[3]
    wrong = text[100].rstrip("\n").split(",")
    wrong[7] = "-95"
    text[100] = ",".join(wrong) + "\n"
    (tmp_path / "wrong.csv").write_text("".join(text))
    done = evtsim_command("verify", str(tmp_path / "wrong.csv"))
    assert done.returncode == 1
    assert "1 of 2,500 records differ" in done.stdout
    assert "rc -95 recorded" in done.stdout
    data = json.loads(evtsim_command("verify", str(tmp_path / "wrong.csv"), "--json").stdout)
    assert data["first"] == 96
    assert evtsim_command("verify", SAMPLE).stdout.endswith("remote_port, effects\n")


def test_validate(trace, tmp_path):
    assert "no errors, 0 notes" in evtsim_command("validate", trace).stdout
    done = evtsim_command("validate", SAMPLE)
    assert done.returncode == 0
    assert "note:" in done.stdout
    assert evtsim_command("validate", SAMPLE, "--strict").returncode == 2
    bad = tmp_path / "bad.csv"
    bad.write_text("ts,dom,vcpu,op,flags,arg0,arg1\n2,0,0,4,0,1,0\n1,0,0,4,0,1,0\n")
    host = tmp_path / "host.json"
    evtsim.Host.uniform(1).to_json(host)
    assert_refused(
        evtsim_command("validate", str(bad), "--host", str(host)), "bad.csv, record 1, field ts"
    )
    assert_refused(evtsim_command("validate", str(bad)), "does not say its host")


def test_generate_and_workloads(tmp_path):
    path = str(tmp_path / "g.parquet")
    done = evtsim_command(
        "generate", "channels", path, "-n", "2k", "-p", "domains=3", "--seed", "9"
    )
    assert done.returncode == 0
    want = workloads.generate("channels", records=2000, domains=3, seed=9)
    assert evtsim.Trace.load(path).digest() == want.digest()
    assert "channels" in evtsim_command("workloads").stdout
    assert json.loads(evtsim_command("workloads", "channels", "--json").stdout)["parameters"]


def test_host_commands(trace, tmp_path):
    path = str(tmp_path / "h.json")
    assert evtsim_command("host", "uniform", "7", "--vcpus", "2", "-o", path).returncode == 0
    assert evtsim.Host.from_json(path) == evtsim.Host.uniform(7, vcpus=2)
    assert "1-6" in evtsim_command("host", "show", path).stdout
    assert (
        json.loads(evtsim_command("host", "show", trace, "--json").stdout)["profile"] == "xen-4.0"
    )
    assert evtsim_command("host", "infer", trace).returncode == 0


def test_cache(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    shown = json.loads(evtsim_process("cache", "info", "--json", env=environment).stdout)
    assert shown["root"].startswith(str(tmp_path))
    assert "freed" in evtsim_process("cache", "clear", env=environment).stdout


@pytest.mark.parametrize(("stats", "limit"), [("none", 40), ("port", 60)])
def test_the_first_compile_announces_itself_and_ends_soon(trace, tmp_path, imports, stats, limit):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}

    def replay():
        return evtsim_process("replay", trace, "--stats", stats, "--json", env=environment)

    first, seconds = with_cpu_seconds(replay)
    assert first.returncode == 0, first
    assert seconds < limit * imports
    assert first.stderr.count("compiling kernels, once per version") == 1
    assert first.stderr.count("compiling took") == 1
    again = replay()
    assert again.stderr == ""
    assert again.stdout == first.stdout


def test_a_pipe_in_and_out(trace):
    text = evtsim_process("convert", trace, "-").stdout
    done = evtsim_process("info", "-", "--json", input=text)
    assert json.loads(done.stdout)["digest"] == evtsim.Trace.load(trace).digest()


def test_a_closed_pipe_is_no_error(trace):
    command = f"{sys.executable} -m evtsim convert {trace} - | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == f"# evtsim {evtsim.__version__}\n"
    assert done.stderr == ""


FINDINGS = """Event channel information for domain 3:
""" + "".join(f"   {n} [1/0/0]: s=6 n=0 x=0\n" for n in range(1, 400))


@pytest.mark.parametrize("reader", ["head -1", "true"])
@pytest.mark.parametrize("options", ["--check", "--check --json"])
def test_a_closed_pipe_takes_nothing_from_what_was_found(tmp_path, reader, options):
    """Of output that fits a pipe's buffer and of such that does not."""
    (tmp_path / "log").write_text(FINDINGS)
    command = f"{sys.executable} -m evtsim inspect {tmp_path / 'log'} {options}"
    line = f"{command} | {reader}; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("1\n")
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["info", "replay"])
def test_a_reader_that_takes_nothing_is_no_error(trace, command):
    line = f"{sys.executable} -m evtsim {command} {trace} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("end", [">/dev/full", ">&-", "<&- -"])
def test_streams_that_are_full_or_closed(trace, end):
    target = "" if end.endswith("-") and "<" in end else trace
    line = f"{sys.executable} -m evtsim info {target} {end}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if end == ">&-" else 2)


def test_the_time_span_begins_with_the_first_record(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        '# host: {"domains": [{}]}\nts,dom,vcpu,op,flags,arg0,arg1\n'
        "1000000000,0,0,upcall,0,0,0\n1000000005,0,0,upcall,0,0,0\n"
    )
    assert json.loads(evtsim_command("replay", str(path), "--json").stdout)["duration_ns"] == 5


def test_a_replay_that_cannot_write_all_writes_nothing(trace, tmp_path):
    out, state = tmp_path / "out.arrow", tmp_path / "nowhere" / "state"
    done = evtsim_command("replay", trace, "--outcomes", str(out), "--state", str(state))
    assert_refused(done, "nowhere/state: its folder does not exist")
    done = evtsim_command("replay", trace, "--outcomes", str(out), "--state", str(out))
    assert_refused(done, "cannot hold both --outcomes and --state")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_with_130(tmp_path):
    path = tmp_path / "long.arrow"
    workloads.generate("channels", records=6_000_000, domains=500, ports=100).save(path)
    out = tmp_path / "out.csv"
    process = subprocess.Popen(
        [sys.executable, "-m", "evtsim", "replay", str(path), "--outcomes", str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (stdout, stderr) == (b"", b"")
    assert list(tmp_path.iterdir()) == [path]


def test_progress_on_a_terminal(tmp_path, trace):
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "evtsim", "replay", trace, "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=True,
    )
    os.close(theirs)
    assert b"replaying" in os.read(ours, 100_000)
    assert json.loads(done.stdout)["records"] == 5000


HOSTS = {
    "unknown.json": '{"domains": [{"colour": 1}]}',
    "none.json": '{"domains": []}',
    "many.json": '{"domains": [{"count": 32000}, {"count": 8000}]}',
    "vcpus.json": '{"domains": [{"vcpus": 0}]}',
    "bits.json": '{"domains": [{"word_bits": 48}]}',
    "text.json": "hello",
}


@pytest.mark.parametrize("name", HOSTS)
def test_wrong_host_files(trace, tmp_path, name):
    (tmp_path / name).write_text(HOSTS[name])
    out = tmp_path / "out.csv"
    done = evtsim_command("replay", trace, "--host", str(tmp_path / name), "--outcomes", str(out))
    assert_refused(done, name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "missing.arrow"], "missing.arrow: no such file"),
        (["replay", "."], ".: is a folder (expected a file)"),
        (["replay", "notes.txt"], "notes.txt: no such file"),
        (["replay", sys.executable], "unknown suffix (expected .arrow, .parquet"),
        (["replay"], "Missing argument"),
        (["replay", SAMPLE, "--colour"], "--colour"),
        (["sing"], "sing"),
        (["generate", "nothing", "x.arrow"], "no workload 'nothing'"),
        (["generate", "channels", "x.arrow", "-n", "many"], "'many'"),
        (["generate", "channels", "x.arrow", "-p", "domains"], "expected NAME=VALUE"),
        (["generate", "channels", "x.arrow", "-p", "domains=1"], "domains is 1"),
        (["generate", "channels", "x.arrow", "-p", "seed=1"], "expected NAME=VALUE"),
        (["generate", "channels", "x.arrow", "-p", "rate=fast"], "rate is 'fast'"),
        (["generate", "channels", "nowhere/x.arrow"], "nowhere/x.arrow: its folder does not exist"),
        (["convert", SAMPLE, "x.txt"], "unknown suffix"),
        (["verify", SAMPLE, "--host", "missing.json"], "missing.json: no such file"),
        (["report", "missing.arrow", "-o", "r.html"], "missing.arrow: no such file"),
        (["report", ".", "-o", "r.html"], "holds no run"),
        (["report", SAMPLE, "-o", "r.pdf"], "r.pdf: unknown suffix (expected .html, .htm)"),
        (["report", SAMPLE, "-o", "nowhere/r.html"], "nowhere/r.html: its folder does not exist"),
        (["report", SAMPLE, "-o", "r.html", "--wake", "2us"], "add --guest linux"),
        (["report", SAMPLE, "-o", "r.html", "--drain"], "add --guest linux"),
        (["report"], "Missing argument"),
        (["host", "uniform", "0"], "'DOMAINS': 0 (expected 1 to 32,752)"),
    ],
)
def test_wrong_usage(tmp_path, arguments, words):
    assert_refused(evtsim_command(*arguments, cwd=tmp_path), words)
    assert list(tmp_path.iterdir()) == []
