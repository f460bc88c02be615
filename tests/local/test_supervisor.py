"""The supervisor's rules, one by one: a real supervisor, real children, real signals."""

import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shop.local import ledger
from shop.local.child import Child, stop_together
from shop.local.identity import birth
from shop.local.ledger import Entry
from shop.local.logs import Log
from shop.local.refusal import Broken
from shop.local.state import State
from shop.local.supervisor import RESTARTS, Supervisor
from tests.local.conftest import CHECKOUT, Stage, lives
from tests.local.supervised import witness
from tests.local.waiting import PATIENCE_SECONDS, eventually
from tests.servers import clean_environment


def child(name: str, *habits: str, **how: Any) -> dict[str, Any]:
    return {"name": name, "habits": list(habits), **how}


# --- each child has a session of its own


def test_each_child_leads_a_session_of_its_own(stage: Stage) -> None:
    """So that Ctrl-C, which goes to the whole foreground group, reaches the supervisor alone."""
    stage.start([child("web"), child("worker")]).until("ready")
    assert eventually(lambda: len(stage.diary) == 2)

    for name in ("web", "worker"):
        [pid] = stage.pids(name)
        assert os.getsid(pid) == pid


def test_who_gives_way_is_last_for_a_processor(state: State) -> None:
    """It and all that it starts, as processes and as the session that Linux counts first."""
    polite = Child.start(witness(state, "worker", ["parent"]), Log(state.log / "worker.log"))
    first = Child.start(witness(state, "web", []), Log(state.log / "web.log"))
    stage = Stage(state)
    assert eventually(lambda: len(stage.diary) == 3)

    try:
        polite.give_way(5)
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        pids = [polite.entry.pid, *stage.pids("worker-child"), first.entry.pid]
        assert [_niceness(pid) - ours for pid in pids] == [5, 5, 0]
        if Path("/proc/self/autogroup").exists():
            assert [_niceness_of_session(pid) for pid in pids] == [5, 5, 0]
    finally:
        stop_together([polite, first])


def test_nobody_gives_way_before_it_is_ready(state: State) -> None:
    """Whoever comes back in the middle of a rush is missed, and would take long with what the others leave."""
    seen: list[int] = []

    def is_ready() -> bool:
        seen.append(_niceness(supervisor.pid("web")) - _niceness(0))
        return len(seen) % 3 == 0

    supervisor = Supervisor(state, lambda _: None)
    supervisor.start([replace(witness(state, "web", []), niceness=5, is_ready=is_ready)])
    first = supervisor.pid("web")
    try:
        assert seen == [0, 0, 0]
        assert _niceness(first) - _niceness(0) == 5

        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: looked_after(supervisor) and len(seen) == 6)
        assert seen == [0] * 6
        assert _niceness(supervisor.pid("web")) - _niceness(0) == 5
    finally:
        supervisor.stop()


def _niceness(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


def _niceness_of_session(pid: int) -> int:
    """Said as `/autogroup-25 nice 5`."""
    return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])


# --- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_of_the_three_stops_everything(stage: Stage, number: signal.Signals) -> None:
    """Ctrl-C, `kill` and a closed window end with status 0 and no child left."""
    stage.start([child("web")]).until("ready")
    assert eventually(lambda: stage.diary == ["web started"])

    stage.send(number)

    assert stage.end() == (0, "")
    assert stage.diary == ["web started", "web SIGTERM", "web ended"]
    assert stage.everybody_is_gone()


def test_ctrl_c_works_where_the_shell_has_it_ignored(stage: Stage) -> None:
    """A shell starts background jobs with SIGINT ignored, which children inherit."""
    stage.start([child("web")], prefix=("sh", "-c", 'trap "" INT; exec "$@"', "sh")).until("ready")

    stage.send(signal.SIGINT)

    assert stage.end() == (0, "")
    assert stage.everybody_is_gone()


def test_further_signals_do_not_break_the_stop(stage: Stage) -> None:
    """Whoever presses Ctrl-C again and again still gets an orderly end."""
    stage.start([child("database")], [child("web", "lingers")]).until("ready")
    assert eventually(lambda: len(stage.diary) == 2)

    stage.send(signal.SIGINT)
    assert eventually(lambda: "web SIGTERM" in stage.diary)
    stage.send(signal.SIGINT)
    stage.send(signal.SIGTERM)

    assert stage.end() == (0, "")
    assert stage.diary[-2:] == ["database SIGTERM", "database ended"]


def test_a_signal_during_the_start_stops_what_has_started(stage: Stage) -> None:
    """The handlers are there before the first child is."""
    stage.start([child("database")], [child("web", f"late={stage.state.path / 'never'}")])
    assert eventually(lambda: "web started" in stage.diary)

    assert stage.stop() == (0, "")
    assert stage.everybody_is_gone()


def test_the_end_of_make_is_the_end_of_what_make_started(stage: Stage) -> None:
    """`kill` reaches make alone, and make passes nothing on; without make nobody's end matters."""
    by_make = _started_by_a_process_that_is_killed(stage, webs=1, MAKELEVEL="1")
    assert eventually(stage.everybody_is_gone)
    assert eventually(lambda: not lives(by_make))

    by_hand = _started_by_a_process_that_is_killed(stage, webs=2)
    os.kill(stage.pids("web")[1], signal.SIGKILL)
    assert eventually(lambda: stage.have_started(3, "web")), "it has looked around since, and goes on"
    os.kill(by_hand, signal.SIGTERM)
    assert eventually(stage.everybody_is_gone)


def _started_by_a_process_that_is_killed(stage: Stage, webs: int, **variables: str) -> int:
    script = '"$@" & echo $!; wait'
    command = ["sh", "-c", script, "sh", *stage.command([child("web")])]
    environment = {**clean_environment(), **variables}
    parent = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as lines:
        pid = int(lines.readline())
        while "ready" not in lines.readline():
            pass
        assert eventually(lambda: stage.have_started(webs, "web"))
        parent.kill()
        parent.wait()
    return pid


# --- the terminal


def test_a_closed_pipe_does_not_stop_the_stop(stage: Stage) -> None:
    """`make up | head -1`: what it prints goes nowhere from then on, and nothing else changes."""
    stage.start([child("web")]).until("ready")
    assert stage.process is not None
    assert stage.process.stdout is not None
    assert eventually(lambda: stage.pids("web"))
    stage.process.stdout.close()
    stage.process.stdout = None

    os.kill(stage.pids("web")[0], signal.SIGKILL)  # about which it has something to say
    assert eventually(lambda: len(stage.pids("web")) == 2)

    assert stage.stop() == (0, "")
    assert stage.everybody_is_gone()


def test_no_output_at_all_is_no_reason_to_fail(stage: Stage) -> None:
    """Started with stdout and stderr closed."""
    stage.start([child("web")], prefix=("sh", "-c", 'exec "$@" >&- 2>&-', "sh"))
    assert eventually(lambda: stage.diary == ["web started"])

    assert stage.stop()[0] == 0
    assert stage.everybody_is_gone()


def test_a_closed_window_leaves_nothing_behind(stage: Stage) -> None:
    """The terminal hangs up: SIGHUP comes, and every print fails."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(CHECKOUT)
        os.execve(sys.executable, stage.command([child("web")]), clean_environment())
    assert eventually(lambda: stage.diary == ["web started"])

    os.close(terminal)

    assert eventually(stage.everybody_is_gone)
    assert os.waitpid(pid, 0)[1] == 0


# --- the order of the stop


def test_groups_stop_in_reverse_each_with_its_signal(stage: Stage) -> None:
    """A database is asked to stop when the last of its clients has gone."""
    stage.start(
        [child("database", stop="INT")], [child("cache", "lingers")], [child("web", "lingers", stop="HUP")]
    ).until("ready")
    assert eventually(lambda: len(stage.diary) == 3)

    stage.stop()

    assert stage.diary[3:] == [
        *("web SIGHUP", "web ended"),
        *("cache SIGTERM", "cache ended"),
        *("database SIGINT", "database ended"),
    ]


def test_who_does_not_stop_is_killed_with_all_its_children(state: State) -> None:
    """After the grace period; a grandchild would keep the port for ever."""
    service = witness(state, "web", ["stubborn", "parent"])
    running = Child.start(service, Log(state.log / "web.log"))
    stage = Stage(state)
    assert eventually(lambda: len(stage.diary) == 2)

    stop_together([running], grace_seconds=0.1)

    assert running.ending() == "was ended by signal 9 (Killed)"
    assert eventually(stage.everybody_is_gone)


def test_one_group_ends_and_the_others_go_on(state: State) -> None:
    """The one of the service that is named; its name is free again, and nobody is known by it meanwhile."""
    supervisor = Supervisor(state, say=lambda _: None)
    for name in ("server", "web"):
        supervisor.start([witness(state, name, [])])
    server, web = supervisor.pid("server"), supervisor.pid("web")

    supervisor.end("web")

    assert lives(server)
    assert not lives(web)
    assert [entry.name for entry in ledger.left_over(state.ledger)] == ["server"]
    with pytest.raises(KeyError):
        supervisor.end("web")
    supervisor.stop()


def test_who_stops_in_time_leaves_no_children_either(state: State) -> None:
    """The parent ends as it was asked to, and forgets its child."""
    running = Child.start(witness(state, "web", ["parent"]), Log(state.log / "web.log"))
    stage = Stage(state)
    assert eventually(lambda: len(stage.diary) == 2)

    stop_together([running])

    assert running.ending() == "ended with status 0"
    assert eventually(stage.everybody_is_gone)


# --- after kill -9


def test_servers_are_taken_over_after_kill_9_and_all_others_replaced(stage: Stage) -> None:
    """The next start finds real servers alive, keeps them with their data, and stops the old web process."""
    stage.start([child("web")], servers=True).until("ready")
    assert eventually(lambda: stage.pids("web"))
    servers = {entry.name: entry.pid for entry in ledger.left_over(stage.state.ledger) if entry.name != "web"}
    stage.send(signal.SIGKILL)
    stage.end()

    stage.start([child("web")], servers=True).until("ready")
    assert eventually(lambda: len(stage.pids("web")) == 2)

    now = {entry.name: entry.pid for entry in ledger.left_over(stage.state.ledger) if entry.name != "web"}
    assert now == servers
    assert "postgresql" in servers
    assert "web SIGTERM" in stage.diary
    assert not lives(stage.pids("web")[0])

    assert stage.stop()[0] == 0
    assert not any(lives(pid) for pid in servers.values())


def test_a_server_that_does_not_answer_is_not_taken_over(stage: Stage) -> None:
    """Alive is not enough; one that hangs is stopped, and a new one started."""
    answers = stage.state.path / "answers"
    database = child("database", f"ready={answers}", server=True)
    stage.start([database]).until("ready")
    stage.send(signal.SIGKILL)
    stage.end()

    answers.unlink()
    stage.start([database]).until("ready")

    old, new = stage.pids("database")
    assert not lives(old)
    assert lives(new)


def test_a_server_of_another_command_is_not_taken_over(stage: Stage) -> None:
    """Another version or other options: the data are the same, the process must not be."""
    answers = f"ready={stage.state.path / 'answers'}"
    stage.start([child("database", answers, server=True)]).until("ready")
    stage.send(signal.SIGKILL)
    stage.end()

    stage.start([child("database", answers, "lingers", server=True)]).until("ready")

    assert stage.diary == ["database started", "database SIGTERM", "database ended", "database started"]


def test_a_stranger_with_a_known_pid_is_never_signalled(state: State) -> None:
    """The process that was written down has ended, and its pid was given to somebody else."""
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        entry = Entry("web", stranger.pid, born=birth(os.getpid()) + "0", command=["sleep", "60"])
        ledger.write(state.ledger, [entry])

        Supervisor(state).stop_left_over()
        Child(entry).send(signal.SIGKILL)

        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_dead_process_that_nobody_has_reaped_counts_as_dead() -> None:
    """In a container, the first process may never ask for the end of its adopted children."""
    zombie = subprocess.Popen(["true"])
    assert eventually(lambda: birth(zombie.pid) == "")
    zombie.wait()


@pytest.mark.parametrize("text", ["", "not JSON", "[1]", '{"a": 1}', '[{"name": "web"}]'])
def test_a_broken_ledger_means_nothing_is_known(state: State, text: str) -> None:
    """Nothing is signalled on a guess, and the start goes on."""
    state.ledger.write_text(text)

    Supervisor(state).stop_left_over()

    assert ledger.left_over(state.ledger) == []


# --- readiness


def test_a_death_before_ready_shows_the_last_lines_and_stops_the_others(stage: Stage) -> None:
    """Twenty lines of the one that died, status 1, nobody left."""
    stage.start([child("database")], [child("web", "chatty", "dies", f"late={stage.state.path / 'never'}")])

    status, stderr = stage.end()

    assert status == 1
    assert stderr.startswith("web ended with status 3; the last 20 lines of ")
    assert [line.strip() for line in stderr.splitlines()[1:]] == [f"line {n}" for n in range(11, 31)]
    assert stage.everybody_is_gone()


def test_a_missed_deadline_is_as_good_as_a_death(stage: Stage) -> None:
    """A process that runs and is not ready in time, with the lines that it wrote."""
    never = f"late={stage.state.path / 'never'}"
    stage.start([child("web", "chatty", never)], ready_seconds=0.5)

    status, stderr = stage.end()

    assert status == 1
    assert stderr.startswith("web was not ready within 0.5 s; the last 20 lines of ")
    assert "line 30" in stderr
    assert stage.everybody_is_gone()


def test_an_old_ready_file_says_nothing(stage: Stage) -> None:
    """What the last run's worker has left must not be taken for the sign of this one."""
    ready_file = stage.state.path / "worker.ready"
    ready_file.touch()

    stage.start([child("worker", f"late={ready_file}")], ready_seconds=0.5)

    assert stage.end()[0] == 1


def test_a_program_that_cannot_be_run_is_one_clear_line(state: State) -> None:
    """No traceback: the name of the process, and why."""
    service = witness(state, "web", [])
    with pytest.raises(Exception, match=r"^web cannot be started: .*No such file"):
        Supervisor(state).start([type(service)(name="web", command=["/nowhere/python"])])


# --- restarts


def test_a_dead_process_is_started_again_with_what_it_left_swept_away(stage: Stage) -> None:
    """Its child would hold the port, and the new one would share it."""
    stage.start([child("web", "parent")]).until("ready")
    assert eventually(lambda: len(stage.diary) == 2)

    os.kill(stage.pids("web")[0], signal.SIGKILL)

    stage.until("web was ended by signal 9 (Killed): starting it again")
    stage.until("web is back")
    assert eventually(lambda: len(stage.pids("web")) == 2)
    assert eventually(lambda: not lives(stage.pids("web-child")[0]))


def test_a_dead_server_is_started_again_out_loud(stage: Stage) -> None:
    """A database does not die every day: whoever looks at the screen shall see it."""
    stage.start([child("database", server=True)]).until("ready")
    assert eventually(lambda: stage.pids("database"))

    os.kill(stage.pids("database")[0], signal.SIGKILL)

    assert "!!!" in stage.until("database was ended by signal 9 (Killed): starting it again with its data")
    stage.until("database is back")


def test_who_dies_too_often_ends_everything_and_the_reason_is_said(stage: Stage) -> None:
    """Five restarts within a minute; after the next death all stops with status 1."""
    stage.start([child("database")], [child("web", "chatty", "dies")])

    status, stderr = stage.end()

    assert status == 1
    assert stderr.startswith("web ended with status 3, the 6th time within a minute; the last 20 lines of ")
    assert "line 30" in stderr
    assert stage.diary.count("web started") == 1 + RESTARTS
    assert stage.everybody_is_gone()


# --- logs and the state folder


def test_each_process_has_a_log_that_goes_on(stage: Stage) -> None:
    """One file a process; a restart adds to it."""
    for starts in (1, 2):
        stage.start([child("web", "chatty"), child("worker")]).until("ready")
        assert eventually(partial(stage.have_started, starts, "web", "worker"))
        stage.stop()

    assert (stage.state.log / "web.log").read_text().count("line 30\n") == 2
    assert (stage.state.log / "worker.log").read_text() == ""


def test_a_log_that_grew_too_long_is_emptied_at_the_start(tmp_path: Path, monkeypatch: Any) -> None:
    """And only then: the lines of the run that just ended are what somebody may look for."""
    monkeypatch.setattr("shop.local.logs.LOG_BYTES_MAXIMUM", 100)
    path = tmp_path / "web.log"

    path.write_text("x" * 100)
    Log(path)
    assert path.stat().st_size == 100

    path.write_text("x" * 101)
    Log(path)
    assert path.stat().st_size == 0


def test_the_last_lines_are_those_of_this_start(tmp_path: Path) -> None:
    """An old traceback must not explain a new death."""
    path = tmp_path / "web.log"
    path.write_text("old\n")
    log = Log(path)
    path.write_text("old\nnew\n")

    assert log.last_lines() == ["new"]


def test_an_errand_that_takes_too_long_is_stopped(state: State) -> None:
    """With its name and the limit; it is not left running."""
    supervisor = Supervisor(state)
    start = time.monotonic()

    with pytest.raises(Exception, match=r"^prepare did not end within 0.3 s"):
        supervisor.run(witness(state, "prepare", []), seconds=0.3)
    supervisor.stop()

    assert time.monotonic() - start < PATIENCE_SECONDS
    assert Stage(state).everybody_is_gone()


# --- replacing


def replaced(state: State, supervisor: Supervisor, *habits: str, leave_seconds: float = 0.0) -> list[str]:
    """Replace "web" by one with these habits; returns what `switch` saw in the diary."""
    seen: list[str] = []
    diary = state.path / "diary"
    services = [witness(state, "web", list(habits))]
    supervisor.replace(services, lambda: seen.extend(diary.read_text().splitlines()), leave_seconds)
    return seen


def looked_after(supervisor: Supervisor) -> bool:
    """One look at all that runs, as `watch` takes it."""
    for post in list(supervisor._posts()):
        supervisor._look_after(post)
    return True


def test_a_new_one_is_ready_before_the_old_one_goes(state: State) -> None:
    """Both run at the switch; the old one is told to go after its time, and nobody starts it again."""
    supervisor = Supervisor(state, lambda _: None)
    first, second = state.path / "first", state.path / "second"
    supervisor.start([witness(state, "web", [f"ready={first}"])])
    old = supervisor.pid("web")

    replaced(state, supervisor, f"ready={second}")

    new = supervisor.pid("web")
    assert new != old
    assert lives(old)
    assert {entry.pid for entry in ledger.left_over(state.ledger)} == {old, new}
    assert eventually(lambda: looked_after(supervisor) and not lives(old))
    assert supervisor.pid("web") == new
    assert {entry.pid for entry in ledger.left_over(state.ledger)} == {new}
    supervisor.stop()
    assert not lives(new)


def test_an_old_one_stays_for_its_time(state: State) -> None:
    """However often somebody looks; a stop does not wait for it."""
    supervisor = Supervisor(state, lambda _: None)
    supervisor.start([witness(state, "web", [f"ready={state.path / 'first'}"])])
    old = supervisor.pid("web")

    replaced(state, supervisor, f"ready={state.path / 'second'}", leave_seconds=PATIENCE_SECONDS * 10)
    for _ in range(10):
        looked_after(supervisor)

    assert lives(old)
    supervisor.stop()
    assert not lives(old)


def test_a_new_one_that_does_not_come_up_leaves_the_old_one_at_work(state: State) -> None:
    """Broken says why; nothing was switched, and nothing of the new one is left."""
    supervisor = Supervisor(state, lambda _: None)
    supervisor.start([witness(state, "web", [f"ready={state.path / 'first'}"])])
    old = supervisor.pid("web")

    with pytest.raises(Broken, match="web ended with status 3"):
        replaced(state, supervisor, "dies", f"late={state.path / 'never'}")

    looked_after(supervisor)
    assert supervisor.pid("web") == old
    assert lives(old)
    assert {entry.pid for entry in ledger.left_over(state.ledger)} == {old}
    supervisor.stop()


def test_an_errand_that_fails_is_forgotten(state: State) -> None:
    """Nobody starts it again later, as if it were a service."""
    supervisor = Supervisor(state, lambda _: None)
    with pytest.raises(Broken, match="errand ended with status 3"):
        supervisor.run(witness(state, "errand", ["dies"]))

    with pytest.raises(KeyError):
        supervisor.pid("errand")
    assert ledger.left_over(state.ledger) == []
