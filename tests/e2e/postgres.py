"""A PostgreSQL server of our own for a test: on loopback, in a folder of its own, killed and started again at will."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

import harness

PROGRAMS = pathlib.Path("/usr/lib/postgresql/15/bin")  # where Debian puts them


def as_server_user(command):
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=QUIT", *command]


class Postgres:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="neutrino-postgres-"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self._run("initdb", "-D", self.folder / "data", "-A", "trust", "-U", "test", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        self.start()

    @property
    def url(self):
        return f"postgres://test@127.0.0.1:{self.port}/postgres"

    def _command(self, program, *arguments):
        return as_server_user([str(PROGRAMS / program), *map(str, arguments)])

    def _run(self, program, *arguments):
        return subprocess.run(self._command(program, *arguments), cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def start(self):
        command = self._command("postgres", "-D", self.folder / "data", "-p", self.port, "-h", "127.0.0.1", "-k", self.folder,
                                "-c", "shared_buffers=16MB", "-c", "fsync=off")
        with open(self.folder.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        ready = self._command("pg_isready", "-q", "-h", "127.0.0.1", "-p", self.port)
        harness.wait_for(lambda: subprocess.run(ready, cwd=self.folder, check=False).returncode == 0, 60, "PostgreSQL answers")

    def query(self, text):
        """The first column of each row."""
        rows = self._run("psql", "-h", "127.0.0.1", "-p", self.port, "-U", "test", "-d", "postgres", "-At", "-c", text)
        return rows.splitlines()

    def restart(self):
        """At once: its clients are cut off."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)
        self.start()

    def stop(self):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_suffix(".log").unlink(missing_ok=True)
