"""Every command of pyfirecrest's command line, but for large transfers, against a real server."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from common import SYSTEM, USER, WORK, wait_until

PROGRAM = str(pathlib.Path(sys.executable).parent / "firecrest")
called = set()


def run(command, *arguments, system=True, code=0):
    """What the command prints. Its exit status must be this one."""
    called.add(command)
    if system:
        arguments = ("--system", SYSTEM, *arguments)
    line = [PROGRAM, command, *map(str, arguments)]
    environment = {
        **os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "1000", "FIRECREST_API_VERSION": "2.6.0",
    }
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == code, (line, done.stdout, done.stderr)
    return done.stdout


def all_commands():
    """What `--help` lists."""
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}
    text = subprocess.run(
        [PROGRAM, "--help"], capture_output=True, text=True, env=environment, check=True
    ).stdout
    return set(re.findall(r"^\W*([a-z][a-z-]+)  +[A-Z]", text, re.MULTILINE))


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        run("mkdir", WORK)
        cls.local = tempfile.TemporaryDirectory()

    @classmethod
    def tearDownClass(cls):
        run("rm", "--force", WORK)
        cls.local.cleanup()
        commands = all_commands()
        assert len(commands) > 20, commands
        assert not commands - called, f"no test runs {sorted(commands - called)}"

    def file(self, name, content):
        path = pathlib.Path(self.local.name) / name
        path.write_bytes(content)
        return path

    def test_the_system_is_shown(self):
        self.assertRegex(run("server-version", system=False), r"\d+\.\d+")
        self.assertIn(SYSTEM, run("systems", system=False))
        self.assertTrue(all(node["state"] for node in json.loads(run("get-nodes"))))
        self.assertIn("normal", run("get-partitions"))
        run("get-reservations")
        self.assertIn(f"({USER})", run("id"))

    def test_files_go_in_are_looked_at_and_come_out(self):
        source = self.file("lines", b"one\ntwo\nthree\n")
        run("upload", source, WORK, "lines")
        path = f"{WORK}/lines"
        self.assertEqual(run("head", "--lines", "1", path).strip(), "one")
        self.assertEqual(run("tail", "--lines", "1", path).strip(), "three")
        self.assertEqual(run("tail", "--lines=+3", path).strip(), "three")
        self.assertIn("ASCII text", run("file", path))
        self.assertRegex(run("checksum", path), "[0-9a-f]{64}")
        self.assertIn("size", run("stat", path))
        self.assertIn("lines", [entry["name"] for entry in json.loads(run("ls", WORK))])
        target = pathlib.Path(self.local.name) / "back"
        run("download", path, target)
        self.assertEqual(target.read_bytes(), b"one\ntwo\nthree\n")

    def test_paths_are_changed(self):
        run("upload", self.file("p", b"p"), WORK, "p")
        path = f"{WORK}/p"
        run("chmod", path, "600")
        # Without an owner the command sends null.
        run("chown", "--group", "users", path)
        shown = json.loads(run("ls", path))[0]
        self.assertEqual((shown["permissions"], shown["group"]), ("rw-------", "users"))
        run("symlink", path, f"{WORK}/link")
        run("cp", path, f"{WORK}/copy")
        run("mv", f"{WORK}/copy", f"{WORK}/moved")
        run("compress", path, f"{WORK}/p.tgz")
        run("mkdir", f"{WORK}/out")
        run("extract", f"{WORK}/p.tgz", f"{WORK}/out")
        run("rm", "--force", f"{WORK}/out/p")
        run("stat", f"{WORK}/out/p", code=1)

    def test_jobs(self):
        script = self.file("job.sh", b"#!/bin/bash\nsleep 600\n")
        job = json.loads(run("submit", "--working-dir", WORK, script))["jobId"]
        state = lambda: json.loads(run("job-info", job))[0]["status"]["state"]
        wait_until(state, lambda state: state == "RUNNING")
        self.assertIn("sleep 600", run("job-metadata", job))
        run("attach-to-job", job, f"touch {WORK}/attached")
        run("cancel", job)
        run("wait-for-job", job)
        wait_until(state, lambda state: state.startswith("CANCELLED"))
        run("job-info")


if __name__ == "__main__":
    unittest.main()
