"""Starting, stopping, dying and coming back: the real daemon as a process."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.harness import WAIT, Daemon, Endpoint, Mosquitto, Peer, wait_for_log
from tests.support.manager import Manager

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]


def texts(count: int) -> list[str]:
    return [f"Parcel {i} was put on shelf {i * 7 % 1000}" for i in range(count)]


def test_sigterm_finishes_the_queue_and_says_offline(broker: Endpoint, peer: Peer, make_daemon: Make) -> None:
    daemon = make_daemon(broker).start(peer)
    sent = texts(60)
    for text in sent:
        peer.publish(daemon.event(), text)
    daemon.wait_stats(peer, lambda s: s["handled"] >= 1)
    assert daemon.stop() == 0
    daemon.wait_status(peer, b"offline")
    daemon.start(peer)  # what was not acknowledged before comes again, what was is kept
    stats = daemon.wait_stats(peer, lambda s: s["learned"] >= len(sent))
    assert (stats["learned"], stats["reinforced"]) == (len(sent), 0)


def test_a_killed_daemon_is_announced_by_its_last_will(
    broker: Endpoint, peer: Peer, make_daemon: Make
) -> None:
    daemon = make_daemon(broker).start(peer)
    daemon.kill()
    daemon.wait_status(peer, b"offline")


def test_a_kill_in_the_middle_loses_nothing_and_learns_nothing_twice(
    broker: Endpoint, peer: Peer, make_daemon: Make
) -> None:
    daemon = make_daemon(broker).start(peer)
    sent = texts(150)
    for text in sent[:100]:
        peer.publish(daemon.event("shelf"), text)
    daemon.wait_stats(peer, lambda s: s["learned"] >= 20)
    daemon.kill()
    daemon.wait_status(peer, b"offline")
    for text in sent[100:]:  # kept by the broker in the daemon's session
        peer.publish(daemon.event("shelf"), text)
    daemon.start(peer)
    stats = daemon.wait_stats(peer, lambda s: s["learned"] >= len(sent))
    assert stats["units"]["used"] == stats["learned"] == len(sent)
    # The embedded broker sends again under another number and without calling it a repeat: what was committed
    # and not acknowledged yet, a batch, cannot be told from new events that say the same.
    assert stats["reinforced"] <= (0 if broker.name == "mosquitto" else 10)
    assert daemon.stop() == 0


def test_the_memory_is_the_same_after_a_kill(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    from mda_core.memory import Memory

    peer = connect(mosquitto)
    killed, untouched = make_daemon(mosquitto), make_daemon(mosquitto)
    for daemon in (killed, untouched):
        daemon.start(peer)
        for i, text in enumerate(texts(40)):
            peer.publish(daemon.event("s"), json.dumps({"text": text, "ts": 1_790_000_000 + i}))
        daemon.wait_stats(peer, lambda s: s["learned"] == 40)
    killed.kill()
    assert untouched.stop() == 0
    digests = []
    for daemon in (killed, untouched):
        with Memory.open(daemon.folder / "state" / "home.db", units=512) as memory:
            digests.append(memory.digest())
    assert digests[0] == digests[1]


def test_after_a_broker_restart_subscriptions_and_retained_topics_are_back(
    own_mosquitto: Mosquitto, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(own_mosquitto.endpoint)
    daemon = make_daemon(own_mosquitto.endpoint).start(peer)
    own_mosquitto.stop()  # it keeps nothing
    own_mosquitto.start()
    again = connect(own_mosquitto.endpoint)
    for name in ("status", "info", "health"):
        again.subscribe(f"{daemon.base}/{name}")
        again.wait_for(lambda m, name=name: m.topic == f"{daemon.base}/{name}" and m.payload != b"offline")  # type: ignore[misc]
    again.publish(daemon.event(), "After the restart")
    daemon.wait_stats(again, lambda s: s["learned"] == 1)


def test_a_daemon_started_before_its_broker_finds_it(
    tmp_path: Path, own_mosquitto: Mosquitto, connect: Connect, make_daemon: Make
) -> None:
    own_mosquitto.stop()
    daemon = make_daemon(own_mosquitto.endpoint).start()
    wait_for_log(daemon, "cannot reach the broker")
    own_mosquitto.start()
    peer = connect(own_mosquitto.endpoint)
    peer.subscribe(f"{daemon.base}/status")
    peer.wait_for(lambda m: m.payload == b"online")
    assert daemon.log.read_text().count("cannot reach the broker") == 1


def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(
    embedded: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(embedded, 4)
    old_only = Endpoint("iotcore", embedded.port, embedded.port)
    daemon = make_daemon(old_only).start(peer)
    peer.publish(daemon.event(), "An old broker is good enough")
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)
    assert daemon.ask(peer, "recall", "broker")["known"]
    assert daemon.stop() == 0


def test_user_name_and_password_are_used(tmp_path: Path, connect: Connect, make_daemon: Make) -> None:
    passwords = tmp_path / "passwords"
    tool = "mosquitto_passwd"
    try:
        subprocess.run([tool, "-b", "-c", str(passwords), "mda", "s3cret"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("mosquitto_passwd not installed")
    broker = Mosquitto(tmp_path / "locked", f"allow_anonymous false\npassword_file {passwords}\n")
    broker.start()
    try:
        peer = connect(broker.endpoint, username="mda", password="s3cret")
        (tmp_path / "secret").write_text("s3cret\n")
        access = {"username": "mda", "password_file": str(tmp_path / "secret")}
        daemon = make_daemon(broker.endpoint, mqtt=access).start(peer)
        assert daemon.stop() == 0
        (tmp_path / "secret").write_text("wrong\n")
        daemon.start()
        wait_for_log(daemon, "refused the connection: Not authorized")
        assert daemon.stop() == 0
        assert "s3cret" not in daemon.log.read_text() and "wrong" not in daemon.log.read_text()
    finally:
        broker.stop()


def test_tls_is_used_and_an_unknown_authority_refused(
    tmp_path: Path, connect: Connect, make_daemon: Make
) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    command += " -addext subjectAltName=IP:127.0.0.1"
    try:
        subprocess.run([*command.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl not installed")
    plain = Mosquitto(tmp_path / "plain")
    secure = Mosquitto(
        tmp_path / "tls",
        f"cafile {cert}\ncertfile {cert}\nkeyfile {key}\nlistener {plain.port} 127.0.0.1\n",
    )
    secure.start()
    try:
        peer = connect(plain.endpoint)
        daemon = make_daemon(secure.endpoint, mqtt={"tls": {"ca": str(cert)}}).start(peer)
        assert daemon.stop() == 0
        stranger = make_daemon(secure.endpoint, mqtt={"tls": {}}).start()
        wait_for_log(stranger, "CERTIFICATE_VERIFY_FAILED")
    finally:
        secure.stop()


def test_a_second_daemon_on_one_state_folder_is_refused(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    daemon = make_daemon(mosquitto).start(connect(mosquitto))
    second = make_daemon(mosquitto, state=str(daemon.folder / "state")).start()
    assert second.process is not None and second.process.wait(WAIT) == 1
    second.process = None
    assert "in use by another daemon" in second.log.read_text()


def test_state_of_another_size_is_refused_with_the_way_out(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    daemon = make_daemon(mosquitto).start(connect(mosquitto))
    assert daemon.stop() == 0
    other = make_daemon(mosquitto, state=str(daemon.folder / "state"), spaces={"home": {"units": 99}}).start()
    assert other.process is not None and other.process.wait(WAIT) == 1
    other.process = None
    assert "set units to 512" in other.log.read_text()
    assert "Traceback" not in other.log.read_text()


def test_a_missing_model_is_refused(mosquitto: Endpoint, make_daemon: Make) -> None:
    daemon = make_daemon(mosquitto, encoder={"model": "/nowhere/model"}).start()
    assert daemon.process is not None and daemon.process.wait(WAIT) == 1
    daemon.process = None
    assert "/nowhere/model" in daemon.log.read_text() and "Traceback" not in daemon.log.read_text()


def test_files_are_private(mosquitto: Endpoint, connect: Connect, make_daemon: Make) -> None:
    daemon = make_daemon(mosquitto).start(connect(mosquitto))
    state = daemon.folder / "state"
    assert state.stat().st_mode & 0o777 == 0o700
    files = list(state.iterdir())
    assert files and all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_systemd_hears_ready_the_watchdog_and_stopping(
    mosquitto: Endpoint,
    connect: Connect,
    make_daemon: Make,
    manager: Manager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    daemon = make_daemon(mosquitto).start(connect(mosquitto))
    for line in ("READY=1", "WATCHDOG=1", "WATCHDOG=1"):
        manager.wait_for(line)
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGINT)
    manager.wait_for("STOPPING=1")
    assert daemon.process.wait(WAIT) == 0
    daemon.process = None
