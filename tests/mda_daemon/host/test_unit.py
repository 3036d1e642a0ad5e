"""The unit as it is, under a systemd of its own: installed by `make install`, locked down, killed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.harness import Daemon, Endpoint, Peer, wait_for_log
from tests.support.installation import ROOT, copy_checkout, installed
from tests.support.machine import Impossible, Machine

Connect = Callable[..., Peer]
MEMORY_MAX = 384 * 1024 * 1024
DYNAMIC_USERS = range(61184, 65520)

# For the tests: where its words go, and no long pauses. What it may do stays as the unit has it.
DROP_IN = """[Service]
StandardOutput=append:{log}
StandardError=append:{log}
RestartSec=100ms
WatchdogSec=10s
"""


class Service(Daemon):
    """The daemon as the unit runs it; asked as any other of the tests."""

    def __init__(self, machine: Machine, endpoint: Endpoint, folder: Path) -> None:
        super().__init__(endpoint, folder)
        self.machine = machine
        self.config |= {"state": "/var/lib/mda", "health_seconds": 3600}
        self.write_config()

    def write_config(self, **changes: object) -> None:
        self.machine.write("/etc/mda/config.yaml", yaml.safe_dump(self.config | changes))

    def begin(self, command: str, peer: Peer) -> None:
        """Have systemd `start` or `restart` it, and wait until it says so."""
        peer.subscribe(f"{self.base}/status")
        peer.forget()
        result = self.machine.run("systemctl", command, "mda", check=False)
        assert result.returncode == 0, self.log.read_text()
        self.wait_status(peer, b"online")

    @property
    def pid(self) -> str:
        return self.machine.show("mda", "MainPID")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    try:
        machine = Machine(tmp_path_factory.mktemp("machine") / "disk")
    except Impossible as exc:
        pytest.skip(str(exc))
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def service(machine: Machine, mosquitto: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """Installed, not yet started. The dependencies come from the first installation of this session."""
    destdir, _ = installed(tmp_path_factory.getbasetemp())
    machine.run("mkdir", "-p", "/opt")
    machine.run("cp", "-a", str(destdir / "opt/mda"), "/opt/mda")
    said = machine.run("make", "-C", str(ROOT), "install").stdout
    assert "Start it, now and at every boot: systemctl enable --now mda" in said
    assert machine.run("mda", "--help").stdout.startswith("usage: mda")
    service = Service(machine, mosquitto, tmp_path_factory.mktemp("service"))
    machine.write("/etc/systemd/system/mda.service.d/test.conf", DROP_IN.format(log=service.log))
    machine.run("systemctl", "daemon-reload")
    return service


@pytest.fixture
def peer(mosquitto: Endpoint, connect: Connect) -> Peer:
    return connect(mosquitto)


@pytest.fixture
def started(service: Service, peer: Peer) -> Service:
    """Running, and heard of by the peer of this test."""
    service.begin("restart", peer)
    return service


def test_it_learns_recalls_and_forgets_under_the_unit_and_ends_in_order(service: Service, peer: Peer) -> None:
    machine = service.machine
    machine.run("systemctl", "enable", "mda")
    service.begin("start", peer)
    assert machine.show("mda", "ActiveState") == "active"
    for i in range(200):
        peer.publish(service.event("shelf"), f"Parcel {i} was put on shelf {i * 7 % 1000}")
    service.wait_stats(peer, lambda s: s["learned"] == 200)
    found = service.ask(peer, "recall", "Where is parcel 17?")
    assert "Parcel 17 was" in found["memories"][0]["text"]
    assert service.ask(peer, "forget", {"memory": found["memories"][0]["memory"]})["forgotten"] == 1
    machine.run("systemctl", "stop", "mda")
    service.wait_status(peer, b"offline")
    assert machine.show("mda", "Result") == "success"
    log = service.log.read_text()
    assert "ERROR" not in log and "WARNING" not in log, log
    # Root looks into the state meanwhile, and leaves nothing there that the service could not use.
    assert "199" in machine.run("mda", "check", "--config", "/etc/mda/config.yaml").stdout
    service.begin("start", peer)
    stats = service.ask(peer, "stats")
    assert (stats["learned"], stats["forgotten"]) == (200, 1)


def test_the_process_holds_nothing_that_the_unit_takes_from_it(started: Service) -> None:
    status = dict(re.findall(r"^(\w+):\s*(.*)$", started.machine.read(f"/proc/{started.pid}/status"), re.M))
    assert int(status["Uid"].split()[0]) in DYNAMIC_USERS
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_its_memory_is_limited_and_it_stays_far_below(started: Service, peer: Peer) -> None:
    for i in range(100):
        peer.publish(
            started.event("meter"), f"The meter in room {i} shows {i * 31} and " + "a long story " * 60
        )
    started.wait_stats(peer, lambda s: s["handled"] == 100)
    assert started.machine.show("mda", "MemoryMax") == str(MEMORY_MAX)
    group = "/sys/fs/cgroup/memory/system.slice/mda.service"
    limit = started.machine.run("cat", f"{group}/memory.limit_in_bytes", check=False)
    if limit.returncode:  # version 2 of the control groups
        used = int(started.machine.show("mda", "MemoryCurrent"))
    else:
        assert int(limit.stdout) == MEMORY_MAX
        used = int(started.machine.read(f"{group}/memory.max_usage_in_bytes"))
    assert 0 < used < MEMORY_MAX * 0.6, used


# Tries what the daemon never does, with the unit's own settings; prints a line for each.
PROBE = r"""
import ctypes, mmap, os, socket

def tried(name, attempt):
    try:
        attempt()
    except OSError as exc:
        print(name, type(exc).__name__, exc.errno, flush=True)
    else:
        print(name, "allowed", flush=True)

libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "")

def connect():
    with socket.create_connection(("127.0.0.1", PORT), timeout=10):
        pass

for folder in "/var/lib/mda /tmp /var/tmp /opt/mda /etc/mda /var/lib /run /home /root".split():
    tried(folder, lambda: open(folder + "/written", "w").close())
tried("program", lambda: open("/opt/mda/bin/mda", "a").close())
tried("shadow", lambda: open("/etc/shadow").close())
tried("disk", lambda: os.open("/dev/vda", os.O_RDONLY))
tried("chroot", lambda: os.chroot("/tmp"))
tried("setuid", lambda: os.setuid(0))
tried("priority", lambda: os.nice(-5))
tried("namespace", lambda: call("unshare", 0x10000000))
tried("trace", lambda: call("ptrace", 0, 0, 0, 0))
tried("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None))
tried("executable", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC))
tried("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close())
tried("broker", connect)
tried("password", lambda: open("/run/credentials/probe.service/mqtt-password").close())
tried("password-of-root", lambda: open("/etc/mda/mqtt-password").close())
print("processes", sum(name.isdigit() for name in os.listdir("/proc")), flush=True)
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("1000")
blocks = [bytearray(os.urandom(1 << 20) * 16) for _ in range(64)]
print("memory allowed", flush=True)
"""


# Without the line that lets it reach this computer: what is left is the rule that forbids everything.
SHUT = r"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    try:
        sock.sendto(b"x", ("127.0.0.1", 9))
    except PermissionError:
        print("network shut")
"""


def probe(machine: Machine, name: str, unit: str, program: str) -> dict[str, str]:
    """What a program is told, run in a unit of the same settings, and how it ended."""
    settings = {
        "Type": "oneshot",
        "NotifyAccess": "none",
        "ExecStart": f"/opt/mda/bin/python -P /opt/{name}.py",
        "WatchdogSec": "0",
        "Restart": "no",
    }
    for key, value in settings.items():
        unit, count = re.subn(rf"^{key}=.*$", f"{key}={value}", unit, flags=re.M)
        assert count == 1, key
    log = f"/run/{name}.log"
    unit = unit.replace("[Install]", f"StandardOutput=append:{log}\nStandardError=append:{log}\n[Install]")
    machine.write(f"/opt/{name}.py", program)
    machine.run("chmod", "644", f"/opt/{name}.py")
    machine.write(f"/etc/systemd/system/{name}.service", unit)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", name, check=False)
    told = dict(line.split(" ", 1) for line in machine.read(log).splitlines())
    return told | {
        "result": machine.show(name, "Result"),
        "status": machine.show(name, "ExecMainStatus"),
    }


@pytest.fixture(scope="module")
def probed(service: Service, mosquitto: Endpoint) -> dict[str, str]:
    """All that was tried in units of the same settings. The last of it ends out of memory."""
    machine = service.machine
    machine.run("systemctl", "stop", "mda")
    machine.write("/etc/mda/mqtt-password", "s3cret")
    machine.run("chmod", "600", "/etc/mda/mqtt-password")
    unit = machine.read("/etc/systemd/system/mda.service")
    assert "\n#LoadCredential=mqtt-password:/etc/mda/mqtt-password\n" in unit
    assert "\nIPAddressAllow=localhost\n" in unit
    unit = unit.replace("#LoadCredential=", "LoadCredential=")
    shut = probe(machine, "shut", unit.replace("\nIPAddressAllow=localhost\n", "\n"), SHUT)
    return shut | probe(machine, "probe", unit, PROBE.replace("PORT", str(mosquitto.port)))


def test_it_writes_to_its_state_and_a_tmp_of_its_own_and_nowhere_else(probed: dict[str, str]) -> None:
    folders = {name: said for name, said in probed.items() if name.startswith("/")}
    allowed = {name for name, said in folders.items() if said == "allowed"}
    assert len(folders) == 9
    assert allowed == {"/var/lib/mda", "/tmp", "/var/tmp"}


@pytest.mark.parametrize(
    "attempt",
    [
        "program",
        "shadow",
        "disk",
        "chroot",
        "setuid",
        "priority",
        "namespace",
        "trace",
        "mount",
        "executable",
        "packets",
    ],
)
def test_what_the_daemon_never_does_is_refused(probed: dict[str, str], attempt: str) -> None:
    assert probed[attempt] != "allowed"


def test_the_broker_is_reached_and_other_processes_are_not_seen(probed: dict[str, str]) -> None:
    assert probed["broker"] == "allowed"
    assert probed["processes"] == "1"


def test_no_address_is_reached_but_those_that_the_unit_allows(probed: dict[str, str]) -> None:
    assert probed["network"] == "shut"


def test_a_password_is_handed_over_that_only_root_reads(probed: dict[str, str]) -> None:
    assert probed["password"] == "allowed"
    assert probed["password-of-root"] != "allowed"


def test_a_process_over_the_limit_is_ended_before_the_device_runs_out(probed: dict[str, str]) -> None:
    assert "memory" not in probed
    # With version 1 of the control groups systemd sees the signal alone.
    assert probed["result"] in ("oom-kill", "signal") and probed["status"] == "9"


def test_killed_it_comes_back_with_all_that_it_learned(started: Service, peer: Peer) -> None:
    peer.publish(started.event("hall"), "The spare key hangs behind the clock")
    stats = started.wait_stats(peer, lambda s: s["handled"] == 1)
    peer.forget()
    started.machine.run("systemctl", "kill", "--signal=KILL", "mda")
    started.wait_status(peer, b"offline")
    started.wait_status(peer, b"online")
    assert started.ask(peer, "stats")["learned"] == stats["learned"]
    assert started.ask(peer, "recall", "Where is the spare key?")["known"]


def test_frozen_it_is_noticed_by_the_watchdog_and_started_anew(started: Service, peer: Peer) -> None:
    before = started.pid
    peer.forget()
    started.machine.run("systemctl", "kill", "--signal=STOP", "mda")
    started.wait_status(peer, b"offline")
    started.wait_status(peer, b"online")
    assert started.pid not in ("0", before)


def test_a_reload_is_done_when_systemctl_says_so_or_soon_after(started: Service, peer: Peer) -> None:
    before = started.pid
    peer.subscribe(f"{started.base}/home/novel")
    started.write_config(spaces={"home": {"units": 512, "novel": True}})
    started.machine.run("systemctl", "reload", "mda")
    wait_for_log(started, "spaces.home.novel: false -> true")
    peer.publish(started.event("hall"), "An owl sits on the banister")
    peer.wait_for(lambda m: m.topic == f"{started.base}/home/novel")
    assert started.machine.show("mda", "ActiveState") == "active"
    assert started.pid == before
    started.write_config()


def test_an_upgrade_restarts_it_and_keeps_everything(started: Service, peer: Peer) -> None:
    before, stats = started.pid, started.ask(peer, "stats")
    config = started.machine.read("/etc/mda/config.yaml")
    peer.forget()
    said = started.machine.run("make", "-C", str(ROOT), "install").stdout
    assert "Restarting the service" in said
    started.wait_status(peer, b"online")
    assert started.pid != before
    assert started.machine.read("/etc/mda/config.yaml") == config
    assert started.ask(peer, "stats")["learned"] == stats["learned"]


def test_after_an_upgrade_that_does_not_start_the_way_back_is_as_printed(
    started: Service, peer: Peer, tmp_path: Path
) -> None:
    machine = started.machine
    learned = started.ask(peer, "stats")["learned"]
    checkout = copy_checkout(tmp_path / "checkout")
    with (checkout / "daemon/mda_daemon/service.py").open("a") as file:
        file.write("\nraise SystemExit('broken on purpose')\n")
    result = machine.run("make", "-C", str(checkout), "install", check=False)
    assert result.returncode != 0
    assert "the new version does not start: see journalctl -u mda" in result.stderr
    peer.forget()
    way_back = result.stderr.splitlines()[-2].removeprefix("mda:")
    said = machine.run("sh", "-c", f"cd {checkout} && {way_back}").stdout
    assert "Restarting the service" in said
    started.wait_status(peer, b"online")
    assert started.ask(peer, "stats")["learned"] == learned
    # There and back: the broken one fails again, and the one that works is not lost.
    forward = machine.run("make", "-C", str(checkout), "rollback", check=False)
    assert forward.returncode != 0
    assert "it does not start: see journalctl -u mda" in forward.stderr
    peer.forget()
    machine.run("make", "-C", str(checkout), "rollback")
    started.wait_status(peer, b"online")


def test_a_rollback_of_a_stopped_service_leaves_it_stopped(service: Service) -> None:
    machine = service.machine
    machine.run("systemctl", "stop", "mda")
    for _ in range(2):
        said = machine.run("make", "-C", str(ROOT), "rollback").stdout
        assert "The service is stopped and stays so" in said
        assert machine.show("mda", "ActiveState") == "inactive"


def test_uninstall_stops_it_and_leaves_what_it_learned(started: Service, peer: Peer) -> None:
    machine = started.machine
    said = machine.run("make", "-C", str(ROOT), "uninstall").stdout
    started.wait_status(peer, b"offline")
    assert "Kept /etc/mda" in said
    assert machine.run("systemctl", "is-enabled", "mda", check=False).returncode != 0
    assert "mda.service" not in machine.run("systemctl", "list-unit-files").stdout
    left = machine.run("ls", "/var/lib/private/mda", "/etc/mda").stdout.split()
    assert "home.db" in left and "config.yaml" in left
    assert machine.run("sh", "-c", "ls -d /opt/mda*", check=False).returncode != 0
