"""A first look: broker, daemon and a sample day on this computer. `make run` starts it, Ctrl-C ends it.

Uses the broker that `config.yaml` names. Where nothing listens there and the address is this computer's
own, it starts the embedded broker. A memory that has never learned anything is told the sample day and
asked three questions about it, all of it over MQTT, as any other program would.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec

from mda_daemon.client.client import Client
from mda_daemon.config.schema import Config
from mda_daemon.errors import BrokerError, ConfigError, DaemonError
from mda_daemon.settings import load
from mda_daemon.storage.lock import in_use

ROOT = Path(__file__).resolve().parent.parent
DAY = Path(__file__).resolve().parent / "day.jsonl"
HERE = ("localhost", "127.0.0.1")  # where the embedded broker can stand in for the configured one
WINDOW = 20
START_SECONDS = 120.0
LEARN_SECONDS = 120.0
# A little more than the daemon itself takes to finish what is queued.
STOP_SECONDS = 75.0
BROKER_STOP_SECONDS = 10.0
PR_SET_PDEATHSIG = 1

say = partial(print, flush=True)


@dataclass(frozen=True)
class Asked:
    """A question about the sample day, and what the right answer holds."""

    question: str
    expect: str


QUESTIONS = (
    Asked("When does Tom have to see the dentist?", "8:15"),
    Asked("Why is the dishwasher not working?", "shows E24"),
    Asked("Who has our ladder?", "borrowed the long ladder"),
)


class Problem(Exception):
    """Why it cannot go on, for the person who started it."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Run broker, daemon and a sample day on this computer.")
    parser.add_argument("--config", type=Path, default=ROOT / "config.yaml", help="default: %(default)s")
    options = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # what goes wrong is said once, by this program
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        with foreground(), ExitStack() as stack:
            run(options.config, stack)
    except KeyboardInterrupt:
        say("Stopped.")
        return 0
    except (Problem, DaemonError) as exc:
        say(f"make run: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, ConfigError) else 1
    return 1


@contextmanager
def foreground() -> Iterator[None]:
    """Be the one that Ctrl-C reaches: make would take it for an error, though all ends as it should."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield  # no terminal, no Ctrl-C
        return
    try:
        group = os.tcgetpgrp(terminal)
        if os.getpgrp() != group or os.getpgrp() == os.getpid():
            yield  # in the background, or of a group of its own already
            return
        # A stop would stop this program only, and leave the shell waiting for make.
        for each in (signal.SIGTTOU, signal.SIGTSTP):
            signal.signal(each, signal.SIG_IGN)
        os.setpgid(0, 0)
        os.tcsetpgrp(terminal, os.getpgrp())
        try:
            yield
        finally:
            os.tcsetpgrp(terminal, group)
    finally:
        os.close(terminal)


def interrupt(number: int, frame: FrameType | None) -> None:
    # Once: what follows is the orderly end, which a second Ctrl-C must not cut short.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def run(path: Path, stack: ExitStack) -> None:
    """Start everything and stay until interrupted. Raises Problem or DaemonError."""
    config = load(path)
    state = config.state_folder.resolve()
    if in_use(state):
        raise Problem(f"a daemon is already running with its state in {state}. Ask it: mda ask '…'")
    address = f"{config.mqtt.host}:{config.mqtt.effective_port}"
    command = [sys.executable, "-m", "mda_daemon", "run", "--config", str(path.resolve())]
    if config.log_level == "info":
        command += ["--log-level", "warning"]
    watched = {}
    if listening(config):
        check_broker(config, address)
        say(f"Using the broker at {address}.")
    else:
        config, broker = embedded(config, address, stack)
        watched["broker"] = broker
        command += ["--host", config.mqtt.host, "--port", str(config.mqtt.effective_port)]
        say(f"Nothing listened at {address}: started the embedded broker there.")
    say(f"Starting the daemon, its state in {state}.")
    daemon = watched["daemon"] = stack.enter_context(child("daemon", command, STOP_SECONDS))

    with Client(config, config.default_space) as client:
        wait_for(client, daemon)
        if sum(learned(client)) == 0:
            feed(client)
            for asked in QUESTIONS:
                ask(client, asked.question)
        else:
            count, repeats = learned(client)
            say(f"It remembers {count} events and {repeats} repeats of them from before.")
    explain(path, address, config.base)
    watch(watched)


def listening(config: Config) -> bool:
    """Whether anything accepts connections at the configured address."""
    try:
        socket.create_connection((config.mqtt.host, config.mqtt.effective_port), timeout=5.0).close()
    except ConnectionRefusedError:
        return False
    except OSError as exc:
        address = f"{config.mqtt.host}:{config.mqtt.effective_port}"
        raise Problem(
            f"the broker at {address} cannot be reached: {exc}. See `mqtt:` in config.yaml"
        ) from exc
    return True


def check_broker(config: Config, address: str) -> None:
    """Raise Problem unless a broker answers at the address and no daemon uses the base there yet."""
    try:
        with Client(config, config.default_space, timeout=5.0) as client:
            online = client.online()
    except BrokerError as exc:
        if "refused the connection" in str(exc):
            raise Problem(
                f"the broker at {address} does not let it in: {exc}\n"
                "Set mqtt.username and mqtt.password_file in config.yaml, or another mqtt.port: it starts a "
                "broker of its own there"
            ) from exc
        raise Problem(
            f"something listens at {address}, but not as the MQTT broker that is expected there: {exc}\n"
            "Stop it, or set another mqtt.port in config.yaml"
        ) from exc
    if online:
        raise Problem(
            f"a daemon is already online at {address} with the base {config.base}.\n"
            "Ask that one, stop it, or set another node in config.yaml"
        )


def embedded(config: Config, address: str, stack: ExitStack) -> tuple[Config, subprocess.Popen[str]]:
    """The embedded broker at the configured port; how to reach it with MQTT 5, on the next one."""
    mqtt = config.mqtt
    if mqtt.host not in HERE or mqtt.tls is not None:
        raise Problem(
            f"nothing listens at {address}, and the embedded broker cannot stand in: it speaks plain MQTT on "
            "127.0.0.1 only.\nStart your broker, or set mqtt: {host: localhost} in config.yaml"
        )
    port, next_port = mqtt.effective_port, mqtt.effective_port + 1
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", next_port))
        except (OSError, OverflowError) as exc:
            raise Problem(
                f"the embedded broker needs port {next_port} beside {port}, for MQTT 5: {exc}. "
                "Set another mqtt.port in config.yaml"
            ) from exc
    command = [sys.executable, "-m", "mda_daemon.broker", "--port", str(port)]
    broker = stack.enter_context(child("broker", command, BROKER_STOP_SECONDS, stdout=subprocess.PIPE))
    assert broker.stdout is not None
    if not broker.stdout.readline():
        raise Problem("the embedded broker did not start: see above")
    mqtt = msgspec.structs.replace(mqtt, host="127.0.0.1", port=next_port)
    return msgspec.structs.replace(config, mqtt=mqtt), broker


@contextmanager
def child(
    name: str, command: list[str], stop_seconds: float, stdout: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process that runs while the context is open.

    In a session of its own, so that Ctrl-C reaches only this program: the daemon has to say goodbye to
    the broker before that one goes. The kernel ends it should this program be killed.
    """
    libc = ctypes.CDLL(None)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(stop_seconds)
        except subprocess.TimeoutExpired:
            say(f"The {name} did not stop in {stop_seconds:g} s and was killed.", file=sys.stderr)
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_for(client: Client, daemon: subprocess.Popen[str]) -> None:
    """Until the daemon says that it is online."""
    deadline = time.monotonic() + START_SECONDS
    while not client.online():
        if daemon.poll() is not None:
            raise Problem(f"the daemon ended with exit code {daemon.returncode}: see above")
        if time.monotonic() > deadline:
            raise Problem(f"the daemon was not ready after {START_SECONDS:g} s")
        time.sleep(0.1)


def learned(client: Client) -> tuple[int, int]:
    """How many events the space has learned, and how many it knew already, over all its life."""
    stats = client.request("stats", {})
    return int(stats["learned"]), int(stats["reinforced"])


def feed(client: Client) -> None:
    """Tell it the sample day at QoS 1, and wait until all of it is on disk."""
    lines = DAY.read_text("utf-8").splitlines()
    say(f"Telling it a day in a home, {len(lines)} events …")
    started = time.monotonic()
    for line in lines:
        event = json.loads(line)
        source = event.pop("source")  # goes into the topic
        client.tell(json.dumps(event, ensure_ascii=False).encode(), source, WINDOW)
    client.settle()
    while sum(learned(client)) < len(lines):
        if time.monotonic() - started > LEARN_SECONDS:
            raise Problem(f"the daemon did not learn the day in {LEARN_SECONDS:g} s")
        time.sleep(0.05)
    new, repeats = learned(client)
    seconds = time.monotonic() - started
    say(f"Learned in {seconds:.1f} s: {new} different events, {repeats} repeats of them.\n")


def ask(client: Client, question: str) -> None:
    reply = client.request("recall", {"query": question, "k": 1})
    say(f"  {question}")
    if not reply["memories"]:
        say("    Nothing is remembered about that.\n")
        return
    best = reply["memories"][0]
    when = datetime.fromisoformat(best["last"]).strftime("%d %b %H:%M")
    say(f"    {best['text']}" if reply["known"] else f"    Nothing for certain. The closest: {best['text']}")
    details = f"{best['source']}, {when}, confidence {best['confidence']:.2f}, {reply['took_ms']:.0f} ms"
    say(f"    ({details})\n")


def explain(path: Path, address: str, base: str) -> None:
    program = Path(sys.executable).with_name("mda")
    mda = str(program) if program.exists() else f"{sys.executable} -m mda_daemon"
    mda = mda.removeprefix(f"{Path.cwd()}/")
    option = "" if path.resolve() == (Path.cwd() / "config.yaml").resolve() else f" --config {path}"
    say(f"It listens at {address}, on topics below {base}/. Try it from a second terminal:")
    say(f'  {mda} tell{option} --source garden/shed "The bicycle pump is on the top shelf"')
    say(f'  {mda} ask{option} "Where is the bicycle pump?"')
    say("Ctrl-C ends it; what it has learned is there again next time.")


def watch(processes: dict[str, subprocess.Popen[str]]) -> None:
    """Until one of them ends, which none should."""
    handles = {os.pidfd_open(process.pid): name for name, process in processes.items()}
    try:
        ended, _, _ = select.select(list(handles), [], [])
    finally:
        for handle in handles:
            os.close(handle)
    name = handles[ended[0]]
    raise Problem(f"the {name} ended with exit code {processes[name].wait()}: see above")


if __name__ == "__main__":
    sys.exit(main())
