"""Who may do what: the access list that ships, TLS with an authority of one's own, secrets, private files."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.harness import (
    MOSQUITTO,
    ROOT,
    WAIT,
    Daemon,
    Endpoint,
    Mosquitto,
    Peer,
    free_port,
    mda_command,
    wait_for_log,
)

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]
ACCESS = ROOT / "systemd" / "mosquitto-mda.acl"
USERS = ("mda", "sensors", "assistant", "admin", "anna", "bob")
PASSWORD = "correct-horse-battery-staple"
TEXT = "The spare key lies under the third pot"
OPENSSL, PASSWD = shutil.which("openssl"), shutil.which("mosquitto_passwd")
needs_openssl = pytest.mark.skipif(not (OPENSSL and MOSQUITTO), reason="openssl or mosquitto not installed")


class Household:
    """The daemon behind a broker with the access list that ships, and Bob beside Anna."""

    def __init__(self, folder: Path, make_daemon: Make, connect: Connect) -> None:
        self._connect, self._folder = connect, folder
        self.secret = folder / "secret"
        self.secret.write_text(PASSWORD + "\n")
        port = free_port()
        self.daemon = make_daemon(
            Endpoint("mosquitto", port, port),
            spaces={name: {"units": 128} for name in ("home", "anna", "bob")},
            mqtt={"username": "mda", "password_file": str(self.secret)},
        )
        self.base = self.daemon.base
        rules = ACCESS.read_text("utf-8").replace("mda/pi1", self.base)
        anna = next(block for block in rules.split("\n\n") if "\nuser anna\n" in block)
        (folder / "acl").write_text(rules + "\n" + anna.replace("anna", "bob"))
        passwords = folder / "passwords"
        passwords.touch()
        for user in USERS:
            subprocess.run([str(PASSWD), "-b", passwords, user, PASSWORD], check=True, capture_output=True)
        extra = f"allow_anonymous false\npassword_file {passwords}\nacl_file {folder / 'acl'}\n"
        self.broker = Mosquitto(folder / "broker", extra, port)
        self.broker.start()
        self.admin = self.client("admin")
        self.daemon.start(self.admin)

    def restart(self, rules: Callable[[str], str]) -> None:
        """With other rules in the access list."""
        path = self._folder / "acl"
        path.write_text(rules(path.read_text()))
        self.broker.stop()
        self.broker.start()
        self.admin = self.client("admin")
        self.admin.subscribe(f"{self.base}/status")
        self.admin.wait_for(lambda m: m.payload == b"online")

    def client(self, user: str) -> Peer:
        return self._connect(self.broker.endpoint, username=user, password=PASSWORD)

    def request(self, peer: Peer, space: str, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        """By the shared response topic, with an id."""
        mark, topic = uuid.uuid4().hex, f"{self.base}/{space}/response/{verb}"
        peer.subscribe(topic, 0)
        peer.publish(f"{self.base}/{space}/request/{verb}", json.dumps({**fields, "id": mark}), 0)
        reply: dict[str, Any] = json.loads(
            peer.wait_for(lambda m: m.topic == topic and mark.encode() in m.payload).payload
        )
        return reply

    def command(self, user: str, *arguments: str) -> str:
        """What `mda` prints for this user."""
        config = self._folder / f"{user}.yaml"
        mqtt = {"host": "127.0.0.1", "port": self.broker.port, "base": self.base}
        mqtt |= {"username": user, "password_file": str(self.secret)}
        config.write_text(yaml.safe_dump({"mqtt": mqtt, "spaces": {user: {}}}))
        command = mda_command(config, *arguments)
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def household(tmp_path: Path, make_daemon: Make, connect: Connect) -> Iterator[Household]:
    if PASSWD is None or MOSQUITTO is None:
        pytest.skip("mosquitto not installed")
    household = Household(tmp_path, make_daemon, connect)
    yield household
    household.broker.stop()


def test_a_person_tells_asks_and_forgets_in_her_own_space(household: Household) -> None:
    household.command("anna", "tell", "--source", "garden", TEXT)
    assert TEXT in household.command("anna", "ask", "Where is the spare key?")
    assert "1" in household.command("anna", "forget", "--query", TEXT, "--yes")
    assert not household.request(household.client("anna"), "anna", "recall", {"query": "key"})["known"]


def test_a_person_neither_reads_writes_nor_forgets_in_another_space(household: Household) -> None:
    daemon, base = household.daemon, household.base
    anna, bob = household.client("anna"), household.client("bob")
    bob.publish(daemon.event("garden", "bob"), TEXT)
    for topic in ("#", f"{base}/#", f"{base}/bob/#", f"{base}/+/response/#", f"{base}/bob/response/recall"):
        anna.subscribe(topic)
    anna.forget()
    anna.publish(daemon.event("garden", "bob"), "Written by Anna")
    anna.publish(f"{base}/bob/request/forget", '{"all": true}')
    anna.publish(f"{base}/bob/response/recall", "Forged by Anna")
    anna.publish(f"{base}/learning/set", "off")
    bob.subscribe(f"{base}/bob/#")
    bob.publish(daemon.event("garden", "bob"), "The last word is Bob's")
    stats = daemon.wait_stats(household.admin, lambda s: s["handled"] >= 2, "bob")
    assert (stats["handled"], stats["learned"], stats["forgotten"]) == (2, 2, 0)
    reply = household.request(bob, "bob", "recall", {"query": "Where is the spare key?"})
    assert reply["memories"][0]["text"] == TEXT
    # What is hers comes after whatever else would have: nothing did.
    assert household.request(anna, "anna", "stats", {})["learned"] == 0
    assert not anna.heard(f"{base}/bob/response/recall") and not bob.heard(f"{base}/bob/novel")
    with pytest.raises(AssertionError, match="not heard"):
        bob.wait_for(lambda m: b"Anna" in m.payload, timeout=0)


def test_no_reply_is_written_into_another_space(household: Household) -> None:
    base, anna, bob = household.base, household.client("anna"), household.client("bob")
    bob.subscribe(f"{base}/bob/response/#")
    anna.subscribe(f"{base}/anna/response/recall")
    for topic in (f"{base}/bob/response/recall", f"{base}/anna/novel", f"{base}/home/x"):
        anna.publish(f"{base}/anna/request/recall", "key", 0, ResponseTopic=topic)
        reply = json.loads(anna.wait_for(lambda m: m.topic == f"{base}/anna/response/recall").payload)
        assert reply["error"]["code"] == "bad_request" and "response topic" in reply["error"]["message"]
    assert household.request(bob, "bob", "recall", {"query": "key"})["known"] is False
    assert not bob.heard(f"{base}/bob/response/recall")


def test_sensors_only_tell_and_the_assistant_never_forgets(household: Household) -> None:
    base, daemon = household.base, household.daemon
    sensors, assistant = household.client("sensors"), household.client("assistant")
    sensors.subscribe(f"{base}/#")
    sensors.publish(daemon.event("sensors/garden"), TEXT)
    daemon.wait_stats(household.admin, lambda s: s["learned"] == 1)
    for peer, verb in ((sensors, "recall"), (sensors, "forget"), (assistant, "forget")):
        peer.publish(f"{base}/home/request/{verb}", '{"all": true}' if verb == "forget" else "key")
    assert household.request(assistant, "home", "recall", {"query": "spare key"})["known"]
    assert household.request(assistant, "home", "stats", {})["forgotten"] == 0
    with pytest.raises(AssertionError, match="not heard"):
        sensors.wait_for(lambda m: True, timeout=0)


def sources(household: Household) -> set[str]:
    """Where what is remembered came from."""
    fields = {"query": "What happened?", "k": 100}
    found = household.request(household.admin, "home", "recall", fields)["memories"]
    return {memory["source"] for memory in found}


def test_no_sensor_speaks_as_another_source(household: Household) -> None:
    daemon = household.daemon
    sensors, assistant = household.client("sensors"), household.client("assistant")
    for peer, own, other in ((sensors, "sensors", "assistant"), (assistant, "assistant", "sensors")):
        for source in ("", other, f"{other}/hall", "hall", own + "x"):
            peer.publish(daemon.event(source), f"Written by {own} as {source}")
        for source in (other, f"{other}/hall", "", own + "x", f"x/{own}", own.upper()):
            peer.publish(daemon.event(f"{own}/door"), json.dumps({"text": f"As {source}", "source": source}))
        peer.publish(daemon.event(own), f"The {own} report the door")
        below = {"text": f"The {own} report the window", "source": f"{own}/window/left"}
        peer.publish(daemon.event(f"{own}/window"), json.dumps(below))
    daemon.wait_stats(household.admin, lambda s: s["handled"] == 2 * (6 + 2))
    assert sources(household) == {
        *("sensors", "sensors/window/left"),
        *("assistant", "assistant/window/left"),
    }
    topic = f"{household.base}/health"
    household.admin.publish(f"{household.base}/learning/set", "on")  # has it report
    household.admin.subscribe(topic)
    household.admin.wait_for(lambda m: m.topic == topic and json.loads(m.payload)["rejected"] == 2 * 6)


def test_with_an_account_for_each_device_each_speaks_as_itself(household: Household) -> None:
    household.restart(lambda rules: rules.replace("#pattern", "pattern"))
    anna, bob = household.client("anna"), household.client("bob")
    for peer, own, other in ((anna, "anna", "bob"), (bob, "bob", "anna")):
        for source in (other, f"{other}/x", "hall", "", own, f"{own}/x"):
            peer.publish(household.daemon.event(source), f"{own} at the place {source}")
    household.daemon.wait_stats(household.admin, lambda s: s["handled"] == 4)
    assert sources(household) == {"anna", "anna/x", "bob", "bob/x"}


class Authority:
    """An authority that signs certificates of this address."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self.name = name
        self.path = folder / f"{name}.crt"
        self._run("req -x509 -days 2", f"-subj /CN={name}", f"-keyout {name}.key -out {name}.crt")

    def sign(self, name: str, days: int = 2) -> dict[str, str]:
        """`cert` and `key`, as the configuration names them."""
        self._run("req", f"-subj /CN={name}", f"-keyout {name}.key -out {name}.csr")
        (self._folder / "extensions").write_text("subjectAltName=IP:127.0.0.1")
        command = f"x509 -req -in {name}.csr -CA {self.name}.crt -CAkey {self.name}.key -CAcreateserial"
        command += f" -days {days} -extfile extensions -out {name}.crt"
        subprocess.run([str(OPENSSL), *command.split()], cwd=self._folder, check=True, capture_output=True)
        return {"cert": str(self._folder / f"{name}.crt"), "key": str(self._folder / f"{name}.key")}

    def _run(self, start: str, *parts: str) -> None:
        key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        command = " ".join((start, key, *parts)).split()
        subprocess.run([str(OPENSSL), *command], cwd=self._folder, check=True, capture_output=True)


class Secured:
    """A broker that lets in who has a certificate of its authority; observers come by a plain listener."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "ca", "house")
        self.stranger = Authority(folder / "other", "stranger")
        self.plain = free_port()
        self.folder = folder

    def start(self, server: dict[str, str]) -> Mosquitto:
        extra = f"cafile {self.authority.path}\ncertfile {server['cert']}\nkeyfile {server['key']}\n"
        extra += f"require_certificate true\nlistener {self.plain} 127.0.0.1\n"
        broker = Mosquitto(self.folder / "tls", extra)
        broker.start()
        return broker


@needs_openssl
def test_a_client_certificate_lets_the_daemon_in_and_a_fault_of_it_is_named(
    tmp_path: Path, connect: Connect, make_daemon: Make
) -> None:
    secured = Secured(tmp_path)
    broker = secured.start(secured.authority.sign("server"))
    ca = {"ca": str(secured.authority.path)}
    own = secured.authority.sign("daemon")
    try:
        peer = connect(Endpoint("plain", secured.plain, secured.plain))
        daemon = make_daemon(broker.endpoint, mqtt={"tls": ca | own}).start(peer)
        assert daemon.ask(peer, "recall", "anything?")["status"] == "ok"
        faults = {
            "refused the connection: TLS: TLSV13_ALERT_CERTIFICATE_REQUIRED": ca,
            "refused the connection: TLS: SSLV3_ALERT_CERTIFICATE_EXPIRED": ca
            | secured.authority.sign("late", -1),
            "refused the connection: TLS: TLSV1_ALERT_UNKNOWN_CA": ca | secured.stranger.sign("daemon"),
            "CERTIFICATE_VERIFY_FAILED: self-signed certificate in certificate chain": own
            | {"ca": str(secured.stranger.path)},
        }
        started = [make_daemon(broker.endpoint, mqtt={"tls": tls}).start() for tls in faults.values()]
        for message, refused in zip(faults, started, strict=True):
            wait_for_log(refused, message)
            assert refused.stop() == 0  # it was still trying
            assert "Traceback" not in refused.log.read_text()
    finally:
        broker.stop()


@needs_openssl
def test_a_broker_whose_certificate_has_expired_is_refused_until_it_has_another(
    tmp_path: Path, connect: Connect, make_daemon: Make
) -> None:
    secured = Secured(tmp_path)
    broker = secured.start(secured.authority.sign("server", -1))
    tls = {"ca": str(secured.authority.path)} | secured.authority.sign("daemon")
    try:
        daemon = make_daemon(broker.endpoint, mqtt={"tls": tls}).start()
        wait_for_log(daemon, "CERTIFICATE_VERIFY_FAILED: certificate has expired")
        broker.stop()
        secured.authority.sign("server")
        broker.start()
        peer = connect(Endpoint("plain", secured.plain, secured.plain))
        peer.subscribe(f"{daemon.base}/status")
        peer.wait_for(lambda m: m.payload == b"online")
    finally:
        broker.stop()


@needs_openssl
def test_no_secret_is_said_anywhere(tmp_path: Path, connect: Connect, make_daemon: Make) -> None:
    secured = Secured(tmp_path)
    broker = secured.start(secured.authority.sign("server"))
    own = secured.authority.sign("daemon")
    (tmp_path / "secret").write_text(PASSWORD + "\n")
    mqtt = {"username": "mda", "password_file": str(tmp_path / "secret")}
    mqtt |= {"tls": {"ca": str(secured.authority.path)} | own}
    try:
        peer = connect(Endpoint("plain", secured.plain, secured.plain))
        daemon = make_daemon(broker.endpoint, mqtt=mqtt).start(peer)
        peer.subscribe(f"{daemon.base}/#")
        said = [peer.wait_for(lambda m, n=n: m.topic.endswith(n)).payload for n in ("/info", "/health")]  # type: ignore[misc]
        said.append(json.dumps(daemon.ask(peer, "recall", "What is the password?")).encode())
        said.append(json.dumps(daemon.ask(peer, "recall", {"query": 1})).encode())
        assert daemon.stop() == 0
        # Mixed up: the key where the certificate should be, the password where the key should be.
        daemon.config["mqtt"]["tls"] |= {"cert": own["key"], "key": str(tmp_path / "secret")}
        daemon.path.write_text(yaml.safe_dump(daemon.config))
        for verb in ("check", "run"):
            command = mda_command(daemon.path, verb)
            result = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=WAIT)
            said.append(result.stdout + result.stderr)
            assert result.returncode == 1 and b"mqtt.tls: cannot use" in said[-1]
            assert b"Traceback" not in said[-1]
    finally:
        broker.stop()
    body = Path(own["key"]).read_text().splitlines()[1].encode()
    for text in (*said, daemon.log.read_bytes()):
        assert PASSWORD.encode() not in text and body not in text and b"PRIVATE KEY" not in text


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_the_state_is_private_whatever_the_umask(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make, umask: int
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer, umask=umask)
    peer.publish(daemon.event("garden"), TEXT)
    peer.publish(f"{daemon.base}/learning/set", "off")
    peer.publish(f"{daemon.base}/snapshot", "")
    peer.publish(daemon.event("garden"), "Not learned")
    daemon.wait_stats(peer, lambda s: s["handled"] == 2)
    daemon.kill()
    daemon.start(peer, umask=umask)
    state = daemon.folder / "state"
    modes = {}
    for path in (state, *state.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # a backup is being made
            modes[path] = path.stat().st_mode & 0o777
    assert len(modes) > 3
    for path, mode in modes.items():
        assert mode == (0o700 if path.is_dir() else 0o600), (path, oct(mode))
