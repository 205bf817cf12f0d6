"""What the tests of existing clients share.

The environment says where the server is, in the words of pyfirecrest's own command:
FIRECREST_URL, FIRECREST_SYSTEM, FIRECREST_CLIENT_ID, FIRECREST_CLIENT_SECRET, AUTH_TOKEN_URL.
"""

import os
import pwd
import time

import firecrest

SYSTEM = os.environ["FIRECREST_SYSTEM"]
USER = os.environ.get("TEST_USER", "fireuser")
WORK = f"{pwd.getpwnam(USER).pw_dir}/clients-test-{os.getpid()}"


def client():
    """A client with a token of the real provider."""
    authorization = firecrest.ClientCredentialsAuth(
        os.environ["FIRECREST_CLIENT_ID"],
        os.environ["FIRECREST_CLIENT_SECRET"],
        os.environ["AUTH_TOKEN_URL"],
    )
    return firecrest.v2.Firecrest(os.environ["FIRECREST_URL"], authorization=authorization)


class Recorder:
    """A client that remembers which of its methods were called."""

    def __init__(self, target):
        self.target = target
        self.called = set()

    def __getattr__(self, name):
        self.called.add(name)
        return getattr(self.target, name)

    def public_methods(self):
        kind = type(self.target)
        names = (name for name in vars(kind) if not name.startswith("_"))
        return {name for name in names if callable(getattr(kind, name))}


def wait_until(ask, good, seconds=60):
    """Asks until the answer is good."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if good(answer):
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)


def submit_sleep(calls):
    """The id of a job that runs."""
    script = "#!/bin/bash\nsleep 600\n"
    job = calls.submit(SYSTEM, WORK, script_str=script)["jobId"]
    wait_until(
        lambda: calls.job_info(SYSTEM, jobid=job)[0]["status"]["state"],
        lambda state: state == "RUNNING",
    )
    return job
