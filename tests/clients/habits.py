"""What aiida-firecrest, firecrestspawner, Open OnDemand and the web interface rely on."""

import os
import pwd
import unittest
import uuid

import httpx

from common import SYSTEM, USER, WORK, client, submit_sleep, wait_until

OPS = f"/filesystem/{SYSTEM}/ops"
JOBS = f"/compute/{SYSTEM}/jobs"


class Habits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = client()
        cls.client.mkdir(SYSTEM, WORK, create_parents=True)

    @classmethod
    def tearDownClass(cls):
        cls.client.rm(SYSTEM, WORK)

    def ask(self, method, path, headers=None, **options):
        token = self.client._authorization.get_access_token()
        headers = {"Authorization": f"Bearer {token}", **(headers or {})}
        url = os.environ["FIRECREST_URL"] + path
        answer = httpx.request(method, url, headers=headers, timeout=60, **options)
        # aiida-firecrest refuses servers before 2.2.8; pyfirecrest reads it from every answer.
        version = [int(part) for part in answer.headers["f7t-appversion"].split(".")]
        self.assertGreaterEqual(version, [2, 2, 8])
        return answer

    def refused(self, status, words, *arguments, **options):
        answer = self.ask(*arguments, **options)
        self.assertEqual(answer.status_code, status, answer.text)
        self.assertIn(words, answer.json()["message"])
        self.assertEqual(answer.json()["user"], USER)

    def test_errors_are_told_apart_by_their_words(self):
        there, missing = {"path": WORK}, {"path": f"{WORK}/nope"}
        self.refused(400, "File exists", "POST", f"{OPS}/mkdir", json=there)
        self.refused(404, "cannot statx", "GET", f"{OPS}/stat", params=missing)
        for operation in ("ls", "head", "tail", "view", "checksum", "download"):
            words = "No such file or directory"
            self.refused(404, words, "GET", f"{OPS}/{operation}", params=missing)
        self.refused(404, "No such file or directory", "DELETE", f"{OPS}/rm", params=missing)
        self.refused(404, "Job not found", "GET", f"{JOBS}/99999999")
        self.refused(403, "Permission denied", "GET", f"{OPS}/ls", params={"path": "/home/another"})

    def test_what_takes_too_long_says_so(self):
        account = pwd.getpwnam(USER)
        os.mkfifo(f"{WORK}/pipe")
        os.chown(f"{WORK}/pipe", account.pw_uid, account.pw_gid)
        path = {"path": f"{WORK}/pipe"}
        self.refused(408, "exit status:124", "GET", f"{OPS}/checksum", params=path)

    def test_small_answers_have_the_shapes_that_are_read(self):
        answer = self.ask("POST", f"{OPS}/upload", params={"path": WORK}, files={"file": ("e", b"")})
        self.assertEqual((answer.status_code, answer.content), (204, b""))
        answer = self.ask("GET", f"{OPS}/checksum", params={"path": f"{WORK}/e"})
        self.assertEqual(answer.json()["output"]["algorithm"].lower(), "sha256")
        answer = self.ask("GET", f"{OPS}/file", params={"path": WORK})
        self.assertEqual(answer.json()["output"], "directory")
        body = {"path": f"{WORK}/e", "owner": None, "group": None}
        self.assertEqual(self.ask("PUT", f"{OPS}/chown", json=body).status_code, 200)
        # The web interface does not encode the path.
        self.assertEqual(self.ask("DELETE", f"{OPS}/rm?path={WORK}/e").status_code, 204)
        for system in self.ask("GET", "/status/systems").json()["systems"]:
            self.assertIn("max_ops_file_size", system["dataOperation"])

    def test_ids_of_requests_come_back(self):
        identity = str(uuid.uuid4())
        headers = {"X-Request-ID": identity, "X-Correlation-ID": "my-workflow-1234"}
        answer = self.ask("GET", "/status/systems", headers=headers)
        self.assertEqual(answer.headers["x-request-id"], identity)
        self.assertEqual(answer.headers["x-correlation-id"], "my-workflow-1234")

    def test_a_job_is_described_as_spawners_read_it(self):
        job = submit_sleep(self.client)
        answer = self.ask("GET", f"{JOBS}/{job}?allusers=false&account=")
        described = answer.json()["jobs"][0]
        self.assertEqual(described["jobId"], job)
        self.assertRegex(described["status"]["state"].split()[0], "RUNNING|COMPLETING")
        self.assertRegex(described["nodes"], r"^[\w.-]+(\[[\d,-]+\])?$")
        self.assertIsInstance(described["allocationNodes"], int)
        self.assertIsInstance(described["time"]["start"], int)
        # Open OnDemand asks with a parameter that nobody reads.
        answer = self.ask("GET", f"{JOBS}?jobs={job},1")
        self.assertIn(job, [described["jobId"] for described in answer.json()["jobs"]])
        self.assertEqual(self.ask("DELETE", f"{JOBS}/{job}").status_code, 204)

    def test_the_environment_may_be_spelled_as_the_web_interface_does(self):
        job = {
            "working_directory": WORK, "script": "#!/bin/bash\necho $WORD\n",
            "environment": {"WORD": "said"}, "standard_output": f"{WORK}/out",
        }
        answer = self.ask("POST", JOBS, json={"job": job})
        self.assertEqual(answer.status_code, 201, answer.text)
        params = {"path": f"{WORK}/out", "lines": 1}
        tail = lambda: self.ask("GET", f"{OPS}/tail", params=params)
        answer = wait_until(tail, lambda answer: answer.status_code == 200)
        said = lambda: tail().json()["output"]["content"]
        wait_until(said, lambda content: content == "said\n")

    def test_a_waiting_job_is_described_too(self):
        script = "#!/bin/bash\n#SBATCH --begin=now+1hour\ntrue\n"
        job = self.client.submit(SYSTEM, WORK, script_str=script)["jobId"]
        described = self.client.job_info(SYSTEM, jobid=job)[0]
        self.assertRegex(described["status"]["state"], "PENDING|CONFIGURING")
        self.assertEqual(described["nodes"], "")
        self.client.cancel_job(SYSTEM, job)


if __name__ == "__main__":
    unittest.main()
