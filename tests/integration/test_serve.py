"""`hardfirst serve` as the processes it is: started, killed in every way, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from ls_backend.local_process import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
LIMIT_S = 60.0
NOWHERE = {"LABEL_STUDIO_URL": "http://127.0.0.1:9", "LABEL_STUDIO_API_KEY": "f" * 40}
"""A platform that is down: nothing here needs it, and nothing may wait for it."""

KEEPER = """
import sys, time
from pathlib import Path
from common.jobs import LocalRunner
from common.ports import TrainingSpec
from common.yolo import trainer
from common.lifeline import die_with
die_with(int(sys.argv[2]))
trainer.command = lambda folder, parent: [sys.executable, "-c",
    f"from common.lifeline import die_with; die_with({parent}); import time; time.sleep(600)"]
home = Path(sys.argv[1])
LocalRunner(home).start(TrainingSpec(home / "round", home / "base.pt", ("cat",), 64, 4, 0, 4, "cpu", 1, 1, 1))
time.sleep(600)
"""
"""A worker that trains: a real runner with a child that has nothing to learn."""


def wait(done: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end, f"waited {limit_s:.0f} s for {what}"
        time.sleep(0.05)


class Served:
    """One `hardfirst serve` and the processes below it."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port = home, port
        self.log = home.parent / f"serve-{port}.log"
        clean = {
            k: v for k, v in os.environ.items() if not k.startswith(("HARDFIRST_", "LABEL_STUDIO_", "CVAT_", "BASIC_"))
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "common.cli", "serve"],
                env={**clean, **NOWHERE, "HARDFIRST_HOME": str(home), "HARDFIRST_PORT": str(port)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def healthy(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def up(self) -> Served:
        wait(lambda: self.healthy() or self.process.poll() is not None, "/health")
        assert self.process.poll() is None, self.log.read_text()
        wait(lambda: bool(self.named("worker")), "the worker")
        return self

    def below(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def named(self, command: str) -> list[psutil.Process]:
        """Living processes of one hidden command, the topmost first."""
        return [p for p in self.below() if command in _arguments(p)]

    def stop(self) -> None:
        left = self.below()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in left:
            if process.is_running():
                process.kill()


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() if process.status() != psutil.STATUS_ZOMBIE else []
    except psutil.NoSuchProcess:
        return []


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and _arguments(p) for p in processes)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(home: str = "home", port: int | None = None) -> Served:
        started.append(Served(tmp_path / home, port or free_port()))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def test_it_answers_within_seconds_and_sigterm_leaves_nothing(serve: Callable[..., Served]) -> None:
    began = time.monotonic()
    served = serve().up()
    assert time.monotonic() - began < 45  # seconds on an idle machine; the bound is for a busy one
    everything = served.below()
    assert len(everything) >= 3  # gunicorn, its worker, ours

    began = time.monotonic()
    served.process.terminate()
    assert served.process.wait(20) == 0
    assert time.monotonic() - began < 15
    wait(lambda: gone(everything), "the children to end", 2)
    assert not served.healthy()


@pytest.mark.parametrize("command", ["web", "worker"])
def test_a_killed_part_is_started_again_and_the_other_part_stays(serve: Callable[..., Served], command: str) -> None:
    served = serve().up()
    other = {"web": "worker", "worker": "web"}[command]
    lost, kept = served.named(command), served.named(other)[0]
    lost[0].kill()
    wait(lambda: gone(lost), f"everything below {command} to end", 3)
    wait(lambda: bool(served.named(command)) and served.healthy(), f"{command} to come back")
    assert served.named(command)[0].pid != lost[0].pid
    assert served.named(other)[0].pid == kept.pid
    assert f"{command} ended" in served.log.read_text()


def test_the_process_that_answers_is_started_again_by_its_own_parent(serve: Callable[..., Served]) -> None:
    served = serve().up()
    arbiter, *answering = served.named("web")
    answering[0].kill()
    wait(lambda: gone(answering[:1]), "it to end", 3)
    wait(served.healthy, "/health")
    assert served.named("web")[0].pid == arbiter.pid


def test_a_part_that_keeps_dying_is_started_later_each_time(serve: Callable[..., Served]) -> None:
    served = serve().up()
    for _ in range(2):
        worker = served.named("worker")
        worker[0].kill()
        wait(lambda w=worker: gone(w) and bool(served.named("worker")), "the worker to come back")  # type: ignore[misc]
    text = served.log.read_text()
    assert "again in 1.0 s" in text
    assert "again in 2.0 s" in text


def test_nothing_outlives_a_killed_supervisor(serve: Callable[..., Served]) -> None:
    served = serve().up()
    everything = served.below()
    served.process.kill()
    served.process.wait()
    wait(lambda: gone(everything), "the children to end", 3)
    again = serve(port=served.port).up()
    assert again.healthy()


def test_a_training_does_not_outlive_the_worker_nor_the_worker_its_parent(tmp_path: Path) -> None:
    (tmp_path / "base.pt").write_bytes(b"")
    keeper = subprocess.Popen([sys.executable, "-c", KEEPER, str(tmp_path), str(os.getpid())])
    try:
        parent = psutil.Process(keeper.pid)
        wait(lambda: bool(parent.children()), "the training child")
        children = parent.children(recursive=True)
        keeper.kill()
        keeper.wait()
        wait(lambda: gone(children), "the training to end", 3)
    finally:
        keeper.kill()


def test_a_second_serve_on_one_home_fails_at_once_in_one_sentence(serve: Callable[..., Served]) -> None:
    first = serve().up()
    second = serve()
    assert second.process.wait(LIMIT_S) == 2
    said = _said(second)
    assert "HARDFIRST_HOME is" in said
    assert "another `hardfirst serve` is at work: stop it, or name another" in said
    assert first.healthy()


def test_a_busy_port_fails_at_once_in_one_sentence(serve: Callable[..., Served]) -> None:
    first = serve().up()
    second = serve("elsewhere", first.port)
    assert second.process.wait(LIMIT_S) == 2
    assert f"HARDFIRST_PORT is {first.port}, where something listens already" in _said(second)
    assert first.healthy()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["Ctrl-C", "a closed terminal"])
def test_what_a_terminal_tells_the_whole_group_ends_everything_quietly(
    serve: Callable[..., Served], number: signal.Signals
) -> None:
    served = serve().up()
    everything = served.below()
    os.killpg(served.process.pid, number)
    assert served.process.wait(20) == 0
    wait(lambda: gone(everything), "the children to end", 2)
    assert "Traceback" not in served.log.read_text()


def _said(served: Served) -> str:
    text = " ".join(served.log.read_text().split())
    assert "Traceback" not in text
    return text
