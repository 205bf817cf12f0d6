"""aiida-firecrest: its transport and its scheduler, as AiiDA calls them."""

import os
import tempfile
import unittest
from pathlib import Path

LOCAL = tempfile.TemporaryDirectory()
os.environ["AIIDA_PATH"] = LOCAL.name  # AiiDA makes its folder as it is imported.

from aiida import load_profile
from aiida.schedulers import SchedulerError
from aiida.schedulers.datastructures import JobState, JobTemplate
from aiida.storage.sqlite_temp import SqliteTempBackend
from aiida_firecrest.scheduler import FirecrestScheduler
from aiida_firecrest.transport import FirecrestTransport
from firecrest.FirecrestException import FirecrestException

from common import SYSTEM, USER, WORK, client, wait_until


class Aiida(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        load_profile(SqliteTempBackend.create_profile("test"))
        cls.client = client()
        cls.client.mkdir(SYSTEM, f"{WORK}/temp", create_parents=True)
        cls.transport = FirecrestTransport(
            url=os.environ["FIRECREST_URL"],
            token_uri=os.environ["AUTH_TOKEN_URL"],
            client_id=os.environ["FIRECREST_CLIENT_ID"],
            client_secret=os.environ["FIRECREST_CLIENT_SECRET"],
            compute_resource=SYSTEM,
            temp_directory=f"{WORK}/temp",
            billing_account="staff",
            max_io_allowed=8,
            checksum_check=True,
        )
        cls.scheduler = FirecrestScheduler()
        cls.scheduler.set_transport(cls.transport)

    @classmethod
    def tearDownClass(cls):
        cls.client.rm(SYSTEM, WORK)

    def here(self, name, content):
        path = Path(LOCAL.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return str(path)

    def test_directories_and_attributes(self):
        there = f"{WORK}/directories"
        with self.transport as transport:
            transport.makedirs(f"{there}/a/b")
            transport.mkdir(f"{there}/a", ignore_existing=True)
            with self.assertRaises(OSError):
                transport.mkdir(f"{there}/a")
            transport.putfile(self.here("file", b"12345"), f"{there}/file.txt")
            transport.symlink(f"{there}/file.txt", f"{there}/link")
            self.assertEqual(sorted(transport.listdir(there)), ["a", "file.txt", "link"])
            self.assertEqual(transport.listdir(there, pattern="*.txt"), ["file.txt"])
            self.assertEqual([*transport.glob(f"{there}/f*")], [f"{there}/file.txt"])
            self.assertTrue(transport.isdir(f"{there}/a") and transport.isfile(f"{there}/file.txt"))
            self.assertTrue(transport.is_symlink(f"{there}/link"))
            self.assertFalse(transport.path_exists(f"{there}/none"))
            self.assertFalse(transport.isdir(f"{there}/none") or transport.isfile(f"{there}/none"))
            attributes = transport.get_attribute(f"{there}/file.txt")
            self.assertEqual(attributes.st_size, 5)
            transport.chmod(f"{there}/file.txt", 0o600)
            self.assertEqual(transport.get_mode(f"{there}/file.txt") & 0o777, 0o600)
            listed = {entry["name"]: entry["isdir"] for entry in transport.listdir_withattributes(there)}
            self.assertEqual(listed, {"a": True, "file.txt": False, "link": False})
            self.assertEqual(transport.whoami(), USER)
            with self.assertRaises(FileNotFoundError):
                transport.get_attribute(f"{there}/none")
            with self.assertRaisesRegex(FirecrestException, "No such file or directory"):
                transport.listdir(f"{there}/none")
            with self.assertRaises(NotImplementedError):
                transport.exec_command_wait("true")

    def test_files_and_trees_go_there_and_back(self):
        there = f"{WORK}/files"
        with self.transport as transport:
            transport.mkdir(there)
            for name, content in (("empty", b""), ("text", "grüße\n".encode()), ("bytes", bytes(range(256)) * 999)):
                transport.putfile(self.here(name, content), f"{there}/{name}")
                back = f"{LOCAL.name}/{name}.back"
                transport.getfile(f"{there}/{name}", back)
                self.assertEqual(Path(back).read_bytes(), content)
            with self.assertRaises(FileNotFoundError):
                transport.getfile(f"{there}/none", f"{LOCAL.name}/none")
            tree = self.here("tree/one/two", b"2").removesuffix("/one/two")
            self.here("tree/three", b"3")
            transport.puttree(tree, f"{there}/tree")
            transport.gettree(f"{there}/tree", f"{LOCAL.name}/tree.back")
            back = Path(LOCAL.name, "tree.back")
            found = {str(path.relative_to(back)): path.read_bytes() for path in back.rglob("*") if path.is_file()}
            self.assertEqual(found, {"one/two": b"2", "three": b"3"})

    def test_copies_moves_and_removals(self):
        there = f"{WORK}/copies"
        with self.transport as transport:
            transport.makedirs(f"{there}/tree/sub")
            transport.putfile(self.here("source", b"content"), f"{there}/tree/sub/file")
            transport.copyfile(f"{there}/tree/sub/file", f"{there}/copy")
            transport.mkdir(f"{there}/tree2")
            transport.copytree(f"{there}/tree", f"{there}/tree2")
            self.assertTrue(transport.isfile(f"{there}/tree2/tree/sub/file"))
            transport.rename(f"{there}/copy", f"{there}/moved")
            self.assertEqual(sorted(transport.listdir(there)), ["moved", "tree", "tree2"])
            transport.remove(f"{there}/moved")
            with self.assertRaises(OSError):
                transport.remove(f"{there}/tree")
            with self.assertRaises(OSError):
                transport.rmdir(f"{there}/tree")
            transport.rmtree(f"{there}/tree")
            transport.rmtree(f"{there}/tree2")
            self.assertEqual(transport.listdir(there), [])

    def script(self, name, body):
        template = JobTemplate()
        template.job_name = "from aiida"
        template.job_resource = self.scheduler.create_job_resource(num_machines=1, num_mpiprocs_per_machine=1)
        template.max_wallclock_seconds = 300
        template.sched_output_path = f"{name}.out"
        header = self.scheduler._get_submit_script_header(template)
        path = self.here(name, f"#!/bin/bash\n{header}\n{body}\n".encode())
        self.transport.putfile(path, f"{WORK}/{name}")
        return self.scheduler.submit_job(WORK, name)

    def test_jobs_are_submitted_seen_and_killed(self):
        with self.transport:
            job = self.script("long.sh", "sleep 600")
            seen = wait_until(
                lambda: self.scheduler.get_jobs(jobs=[job], as_dict=True).get(job),
                lambda info: info is not None and info.job_state == JobState.RUNNING,
            )
            self.assertEqual((seen.job_owner, seen.num_machines, seen.title), (USER, 1, "fromaiida"))
            self.assertEqual(seen.requested_wallclock_time_seconds, 300)
            self.assertIn(job, self.scheduler.get_jobs(as_dict=True))
            self.assertTrue(self.scheduler.kill_job(job))
            wait_until(lambda: self.scheduler.get_jobs(jobs=[job]), lambda jobs: not jobs)
            quick = self.script("quick.sh", "echo $SLURM_JOB_NAME")
            wait_until(lambda: self.scheduler.get_jobs(jobs=[quick]), lambda jobs: not jobs)
            self.transport.getfile(f"{WORK}/quick.sh.out", f"{LOCAL.name}/out")
            self.assertEqual(Path(LOCAL.name, "out").read_text(), "fromaiida\n")
            self.assertEqual(self.scheduler.get_jobs(jobs=["99999999"]), [])
            with self.assertRaises(SchedulerError):
                self.scheduler.submit_job(WORK, "none.sh")


if __name__ == "__main__":
    unittest.main()
