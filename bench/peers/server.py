"""Prosody and ejabberd from Debian: installed, configured, started, stopped.

Both keep an archive of every message in SQLite, with the settings that they come
with; what limits one client is off, because one process plays all of them.
"""

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.peers.xmpp import DOMAIN, ROOMS
from node.bench.plan import BenchProblem
from node.bench.scratch import end, pin, undisturbed

__all__ = ["SERVERS", "Server", "install"]

PACKAGES = ("prosody", "lua-dbi-sqlite3", "ejabberd", "erlang-p1-sqlite3")

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
"""Seconds to come up, and to end before it is killed."""

_PROSODY = """\
run_as_root = true
pidfile = "{home}/prosody.pid"
data_path = "{home}/data"
log = {{ warn = "{home}/log" }}
network_backend = "epoll"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
s2s_ports = {{}}
component_ports = {{}}
modules_enabled = {{ "roster", "saslauth", "disco", "mam", "ping", "posix" }}
modules_disabled = {{ "s2s", "tls" }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "insecure"
insecure_open_authentication = "Yes please, I know what I'm doing!"
storage = {{ archive = "sql", muc_log = "sql" }}
sql = {{ driver = "SQLite3", database = "{home}/archive.sqlite" }}
default_archive_policy = true
archive_expires_after = "never"
VirtualHost "{domain}"
Component "{rooms}" "muc"
  modules_enabled = {{ "muc_mam" }}
  muc_log_by_default = true
  muc_log_all_rooms = true
  muc_log_expires_after = "never"
  muc_room_locking = false
"""

_EJABBERD = """\
hosts: ["{domain}"]
loglevel: error
listen:
  - port: {port}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    access: all
    shaper: none
    max_stanza_size: infinity
    max_fsm_queue: 1000000
max_fsm_queue: 1000000
registration_timeout: infinity
auth_method: internal
auth_password_format: plain
sql_type: sqlite
sql_database: "{home}/archive.sqlite"
modules:
  mod_disco: {{}}
  mod_mam:
    db_type: sql
    default: always
    assume_mam_usage: true
  mod_muc:
    host: "{rooms}"
    max_users: 5000
    default_room_options:
      mam: true
      persistent: true
  mod_register:
    access: all
    ip_access: all
  mod_roster: {{}}
"""


@dataclass
class Server:
    """A server that can be started on a free port."""

    name: str
    registers: bool
    """Whether accounts must be made before they log in."""
    _process: "subprocess.Popen[bytes] | None" = None
    port: int = 0

    @property
    def pid(self) -> int:
        """Its process; it must run."""
        assert self._process is not None
        return self._process.pid

    def start(self, home: Path, core: int | None) -> None:
        """Start it in a directory of its own, on a core, and wait until it answers.

        Raises:
            BenchProblem: it did not come up; says its last words.
        """
        home.mkdir(mode=0o700)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        command, environment = _COMMANDS[self.name](home, self.port)
        with (home / "output").open("wb") as output, undisturbed():
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
                cwd=home,
                start_new_session=True,
            )
        pin(self._process.pid, core)
        end = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise BenchProblem(f"{self.name} did not come up: {_words(home)}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """End it, if it runs."""
        end(self._process, STOP_TIMEOUT)
        self._process = None


SERVERS = {"prosody": Server("prosody", False), "ejabberd": Server("ejabberd", True)}


def install() -> None:
    """Install both by apt-get, unless they are there.

    Raises:
        BenchProblem: we may not, or it failed; says what to type.
    """
    if shutil.which("prosody") and shutil.which("ejabberdctl") and _has_sqlite():
        return
    words = f"apt-get install {' '.join(PACKAGES)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BenchProblem(f"Prosody and ejabberd are not here; as root: {words}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (
        ["update", "-q"],
        ["install", "-y", "-q", "--no-install-recommends", *PACKAGES],
    ):
        done = subprocess.run(
            ["apt-get", *arguments], env=environment, capture_output=True, check=False
        )
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise BenchProblem(f"{words} failed: {' '.join(last)}")


def _has_sqlite() -> bool:
    return any(Path("/usr/lib").glob("**/p1_sqlite3*")) or any(
        Path("/usr/lib").glob("**/sqlite3*/ebin")
    )


def _prosody(home: Path, port: int) -> tuple[list[str], dict[str, str]]:
    config = home / "prosody.cfg.lua"
    config.write_text(_PROSODY.format(home=home, port=port, domain=DOMAIN, rooms=ROOMS))
    (home / "data").mkdir()
    return ["prosody", "--config", str(config), "-F"], {}


def _ejabberd(home: Path, port: int) -> tuple[list[str], dict[str, str]]:
    config = home / "ejabberd.yml"
    config.write_text(
        _EJABBERD.format(home=home, port=port, domain=DOMAIN, rooms=ROOMS)
    )
    # As `ejabberdctl foreground`, without the user and the places of the package,
    # and without a name, so that no epmd is started for it.
    libraries = next(Path("/usr/lib").glob("*/ejabberd-*"), Path("/usr/lib")).parent
    command = [
        *("erl", "-noinput", "+K", "true", "+P", "250000", "+Q", "65536"),
        *("-mnesia", "dir", f'"{home}/mnesia"', "-s", "ejabberd"),
    ]
    return command, {
        "ERL_LIBS": str(libraries),
        "EJABBERD_CONFIG_PATH": str(config),
        "EJABBERD_LOG_PATH": str(home / "log"),
        "HOME": str(home),
    }


_COMMANDS = {"prosody": _prosody, "ejabberd": _ejabberd}


def _words(home: Path) -> str:
    for name in ("output", "log"):
        path = home / name
        if path.exists() and (text := path.read_text(errors="replace").strip()):
            return text.splitlines()[-1]
    return "it said nothing."
