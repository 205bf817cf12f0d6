"""Every method of pyfirecrest's client, but for large transfers, against a real server.

Run with the Python that has pyfirecrest; common.py says what it needs to know.
"""

import io
import pathlib
import tempfile
import unittest

import firecrest

from common import SYSTEM, USER, WORK, Recorder, client, submit_sleep, wait_until

SKIPPED = {
    # These only concern the session in this process.
    "close_session", "create_new_session", "is_session_closed", "log", "set_api_version",
}


class Methods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.calls = Recorder(client())
        cls.calls.mkdir(SYSTEM, WORK, create_parents=True)

    @classmethod
    def tearDownClass(cls):
        cls.calls.rm(SYSTEM, WORK)
        missed = cls.calls.public_methods() - cls.calls.called - SKIPPED
        assert not missed, f"no test calls {sorted(missed)}"

    def put(self, path, content):
        directory, name = f"{WORK}/{path}".rsplit("/", 1)
        self.calls.upload(SYSTEM, io.BytesIO(content), directory, name, file_size=len(content))
        return f"{directory}/{name}"

    def get(self, path):
        with tempfile.TemporaryDirectory() as directory:
            target = pathlib.Path(directory) / "file"
            self.calls.download(SYSTEM, path, target)
            return target.read_bytes()

    def test_the_server_has_a_version_that_clients_can_compare(self):
        version = [int(part) for part in self.calls.server_version().split(".")]
        self.assertGreaterEqual(version, [2, 2, 8])

    def test_systems_and_what_they_consist_of(self):
        systems = {system["name"]: system for system in self.calls.systems()}
        self.assertIn(SYSTEM, systems)
        self.assertEqual(systems[SYSTEM]["fileSystems"][0]["path"], "/home")
        nodes = self.calls.nodes(SYSTEM)
        self.assertTrue(all(node["name"] and node["state"] for node in nodes))
        partitions = self.calls.partitions(SYSTEM)
        self.assertIn("normal", [partition["name"] for partition in partitions])
        self.assertIsInstance(self.calls.reservations(SYSTEM), list)
        user = self.calls.userinfo(SYSTEM)
        self.assertEqual(user["user"]["name"], USER)
        self.assertTrue(user["group"]["id"] and user["groups"][0]["name"])

    def test_small_files_go_in_and_come_out(self):
        for name, content in {
            "empty": b"", "bytes": bytes(range(256)) * 4, "gr\u00fc\u00dfe 'x'": b"text\n",
            "almost a mebibyte": b"0123456789abcdef" * 65535,
        }.items():
            with self.subTest(name):
                self.assertEqual(self.get(self.put(name, content)), content)
        with tempfile.NamedTemporaryFile() as local:
            local.write(b"from a file")
            local.flush()
            self.calls.upload(SYSTEM, local.name, WORK, "named")
        self.assertEqual(self.get(f"{WORK}/named"), b"from a file")

    def test_files_are_looked_at(self):
        path = self.put("lines", "".join(f"line {n}\n" for n in range(1, 101)).encode())
        listing = self.calls.list_files(SYSTEM, WORK, show_hidden=True, recursive=True)
        entry = next(entry for entry in listing if entry["name"] == "lines")
        self.assertEqual((entry["type"], entry["user"], entry["size"]), ("-", USER, "792"))
        self.assertEqual(self.calls.head(SYSTEM, path, num_lines=1)["content"], "line 1\n")
        self.assertEqual(self.calls.head(SYSTEM, path, num_bytes=4)["content"], "line")
        rest = self.calls.head(SYSTEM, path, num_lines=99, exclude_trailing=True)
        self.assertEqual(rest["content"], "line 1\n")
        self.assertEqual(self.calls.tail(SYSTEM, path, num_lines=1)["content"], "line 100\n")
        rest = self.calls.tail(SYSTEM, path, num_lines=100, exclude_beginning=True)
        self.assertEqual(rest["content"], "line 100\n")
        self.assertEqual(self.calls.view(SYSTEM, path)[:14], "line 1\nline 2\n")
        self.assertEqual(self.calls.file_type(SYSTEM, path), "ASCII text")
        self.assertEqual(self.calls.checksum(SYSTEM, path)["algorithm"], "SHA256")
        stat = self.calls.stat(SYSTEM, path, dereference=True)
        self.assertEqual(stat["size"], 792)
        self.assertEqual(
            set(stat), {"mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "ctime", "mtime"}
        )

    def test_paths_are_changed(self):
        path = self.put("changed", b"x")
        self.assertEqual(self.calls.chmod(SYSTEM, path, "640")["permissions"], "rw-r-----")
        self.assertEqual(self.calls.chown(SYSTEM, path, USER, "users")["group"], "users")
        self.assertEqual(self.calls.chown(SYSTEM, path, None, None)["user"], USER)
        self.calls.symlink(SYSTEM, path, f"{WORK}/link")
        links = [e["linkTarget"] for e in self.calls.list_files(SYSTEM, WORK) if e["name"] == "link"]
        self.assertEqual(links, [path])
        self.calls.rm(SYSTEM, f"{WORK}/link")
        self.calls.cp(SYSTEM, path, f"{WORK}/copied")
        self.calls.mv(SYSTEM, f"{WORK}/copied", f"{WORK}/moved")
        self.assertEqual(self.get(f"{WORK}/moved"), b"x")
        names = [entry["name"] for entry in self.calls.list_files(SYSTEM, WORK)]
        self.assertNotIn("copied", names)

    def test_archives_go_in_and_out(self):
        self.calls.mkdir(SYSTEM, f"{WORK}/tree/sub", create_parents=True)
        self.calls.mkdir(SYSTEM, f"{WORK}/out")
        self.put("tree/sub/a.txt", b"a")
        for compression in ("gzip", "none", "bzip2", "xz"):
            archive = f"{WORK}/tree.{compression}"
            self.calls.compress(SYSTEM, f"{WORK}/tree", archive, compression=compression)
            self.calls.extract(SYSTEM, archive, f"{WORK}/out", compression=compression)
            self.assertEqual(self.get(f"{WORK}/out/tree/sub/a.txt"), b"a")
            self.calls.rm(SYSTEM, f"{WORK}/out/tree")
        self.calls.compress(SYSTEM, f"{WORK}/tree", f"{WORK}/m.tgz", match_pattern=".*\\.txt")

    def test_jobs_run_and_are_described(self):
        job = self.calls.submit(
            SYSTEM, WORK, script_str="#!/bin/bash\necho \"hello $WHO\"\n", env_vars={"WHO": "you"}
        )["jobId"]
        self.calls.wait_for_job(SYSTEM, job, timeout=60)
        info = wait_until(
            lambda: self.calls.job_info(SYSTEM, jobid=job)[0],
            lambda info: info["status"]["state"].split()[0] == "COMPLETED",
        )
        self.assertEqual((info["jobId"], info["user"]), (job, USER))
        metadata = self.calls.job_metadata(SYSTEM, job)[0]
        self.assertIn("hello", metadata["script"])
        self.assertIn("hello you\n", self.calls.view(SYSTEM, metadata["standardOutput"]))
        everybody = self.calls.job_info(SYSTEM, allusers=True)
        self.assertIn(job, [info["jobId"] for info in everybody])

    def test_a_script_on_the_system_is_run(self):
        script = self.put("script.sh", b"#!/bin/bash\necho from a path\n")
        job = self.calls.submit(SYSTEM, WORK, script_remote_path=script)["jobId"]
        self.calls.wait_for_job(SYSTEM, job, timeout=60)
        with tempfile.NamedTemporaryFile() as local:
            local.write(b"#!/bin/bash\ntrue\n")
            local.flush()
            self.assertTrue(self.calls.submit(SYSTEM, WORK, script_local_path=local.name)["jobId"])

    def test_a_running_job_is_attached_to_and_cancelled(self):
        job = submit_sleep(self.calls)
        self.calls.attach_to_job(SYSTEM, job, f"touch {WORK}/attached")
        names = [entry["name"] for entry in self.calls.list_files(SYSTEM, WORK)]
        self.assertIn("attached", names)
        self.calls.cancel_job(SYSTEM, job)
        wait_until(
            lambda: self.calls.job_info(SYSTEM, jobid=job)[0]["status"]["state"],
            lambda state: state.startswith("CANCELLED"),
        )

    def test_what_is_not_there_is_said_in_the_words_clients_look_for(self):
        with self.assertRaises(firecrest.UnexpectedStatusException) as caught:
            self.calls.stat(SYSTEM, f"{WORK}/nope")
        self.assertEqual(caught.exception.responses[-1].status_code, 404)
        self.assertIn("cannot statx", str(caught.exception))
        with self.assertRaises(FileNotFoundError):
            self.get(f"{WORK}/nope")
        with self.assertRaises(firecrest.UnexpectedStatusException) as caught:
            self.calls.job_info(SYSTEM, jobid="99999999")
        self.assertEqual(caught.exception.responses[-1].status_code, 404)
        self.assertIn("Job not found", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
