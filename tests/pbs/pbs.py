#!/usr/bin/env python3
"""qsub, qstat, qdel, pbsnodes and pbs_rstat of a PBS that runs on one machine, for tests.

No package of Debian has OpenPBS. This runs jobs as it does, one per `qsub`, as whoever asks, and
answers in its words. Compared with OpenPBS' sources: no `Jobs` when there are none, jobs under
their full ids, times as ctime(3) writes them (qstat.c); exit codes that are the low bytes of the
errors' numbers (pbs_error.h). Compared with what others captured (api-server/testdata/pbs/captured):
the words of messages, a `host:` before files, Variable_List as an object. How a job ends was compared
with nothing. Nodes, queues, server and reservations are the samples of api-server/testdata/pbs, in
PBS_SAMPLES; jobs are kept in PBS_SPOOL, which everybody can write.

Called by the name of one of the programs.
"""
import argparse
import getpass
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

SPOOL = os.environ["PBS_SPOOL"]
SAMPLES = os.environ["PBS_SAMPLES"]
SERVER = "pbs"
UNKNOWN_JOB, FINISHED, DENIED, UNKNOWN_QUEUE = 153, 35, 159, 170


def fail(program, words, code):
    print(f"{program}: {words}", file=sys.stderr)
    sys.exit(code)


def path(number, kind):
    return f"{SPOOL}/{number}.{kind}"


def save(number, job):
    with open(path(number, "new"), "w") as file:
        json.dump(job, file)
    os.chmod(path(number, "new"), 0o644)
    os.rename(path(number, "new"), path(number, "json"))


def load(program, text):
    number = text.split(".")[0]
    try:
        with open(path(number, "json")) as file:
            return number, json.load(file)
    except FileNotFoundError:
        return fail(program, f"Unknown Job Id {number}.{SERVER}", UNKNOWN_JOB)


def now():
    return time.strftime("%a %b %e %H:%M:%S %Y")


def variables(text):
    """`A=1,B=2`, where a backslash takes the meaning from what follows."""
    pairs = re.findall(r"((?:[^\\,]|\\.)+)", text, re.DOTALL)
    plain = (re.sub(r"\\(.)", r"\1", pair, flags=re.DOTALL) for pair in pairs)
    return dict(pair.split("=", 1) for pair in plain)


def qsub():
    parser = argparse.ArgumentParser("qsub")
    for option in "vNqPeo":
        parser.add_argument(f"-{option}")
    parser.add_argument("-V", action="store_true")
    parser.add_argument("script", nargs="?")
    asked = parser.parse_args()
    with open(f"{SAMPLES}/queues.json") as file:
        queues = json.load(file)["Queue"]
    queue = asked.q or "workq"
    if queue not in queues:
        fail("qsub", "Unknown queue", UNKNOWN_QUEUE)
    if asked.script:
        with open(asked.script) as file:
            script = file.read()
    else:
        script = sys.stdin.read()
    number = 1000
    while True:
        try:
            os.close(os.open(path(number, "id"), os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            number += 1
    name = asked.N or "STDIN"
    given = dict(os.environ) if asked.V else variables(asked.v or "")
    directory = os.getcwd()
    job = {
        "Job_Name": name,
        "Job_Owner": f"{getpass.getuser()}@login",
        "job_state": "Q",
        "queue": queue,
        "server": SERVER,
        "ctime": now(),
        "Error_Path": f"login:{asked.e or f'{directory}/{name}.e{number}'}",
        "Output_Path": f"login:{asked.o or f'{directory}/{name}.o{number}'}",
        "Priority": 0,
        "Resource_List": {"ncpus": 1, "nodect": 1, "select": "1:ncpus=1", "walltime": "01:00:00"},
        "Variable_List": {"PBS_O_WORKDIR": directory, **given},
        "project": asked.P or "_pbs_project_default",
    }
    save(number, job)
    print(f"{number}.{SERVER}", flush=True)
    if os.fork() == 0:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nothing, descriptor)
        run(number, job, script)


def run(number, job, script):
    """As pbs_mom: from the home directory, by the login shell, its files delivered at the end."""
    environment = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin", "PBS_JOBID": f"{number}.{SERVER}"}
    environment.update({name: str(value) for name, value in job["Variable_List"].items()})
    with open(path(number, "sc"), "w") as file:
        file.write(script)
    began = time.time()
    with open(path(number, "OU"), "wb") as out, open(path(number, "ER"), "wb") as err:
        process = subprocess.Popen(
            ["/bin/bash", path(number, "sc")], env=environment, cwd=os.environ["HOME"],
            stdout=out, stderr=err, start_new_session=True,
        )
    job.update(job_state="R", stime=now(), exec_host="cn1/0", session_id=process.pid)
    save(number, job)
    status = process.wait()
    taken = time.strftime("%H:%M:%S", time.gmtime(time.time() - began))
    for file, place in (("OU", "Output_Path"), ("ER", "Error_Path")):
        shutil.copy(path(number, file), job[place].split(":", 1)[1])
    job.update(job_state="F", Exit_status=status if status >= 0 else 256 - status)
    job["resources_used"] = {"cput": "00:00:00", "mem": "0kb", "ncpus": 1, "walltime": taken}
    save(number, job)


def qdel():
    number, job = load("qdel", sys.argv[1])
    if job["Job_Owner"].split("@")[0] != getpass.getuser():
        fail("qdel", f"Unauthorized Request  {number}.{SERVER}", DENIED)
    if job["job_state"] == "F":
        fail("qdel", f"Job has finished {number}.{SERVER}", FINISHED)
    os.killpg(job["session_id"], signal.SIGTERM)


def sample(name):
    with open(f"{SAMPLES}/{name}") as file:
        sys.stdout.write(file.read())


def qstat():
    parser = argparse.ArgumentParser("qstat")
    parser.add_argument("-F", required=True, choices=["json"])
    for option in "fxQB":
        parser.add_argument(f"-{option}", action="store_true")
    parser.add_argument("job", nargs="?")
    asked = parser.parse_args()
    if asked.Q or asked.B:
        return sample("queues.json" if asked.Q else "server.json")
    if asked.job:
        jobs = [load("qstat", asked.job)]
    else:
        names = [name[:-5] for name in os.listdir(SPOOL) if name.endswith(".json")]
        jobs = [load("qstat", name) for name in names]
    shown = {f"{number}.{SERVER}": job for number, job in jobs if asked.x or job["job_state"] != "F"}
    answer = {"timestamp": int(time.time()), "pbs_version": "23.06.06", "pbs_server": SERVER}
    if shown:
        answer["Jobs"] = shown
    json.dump(answer, sys.stdout, indent=4, separators=(",", ":"))


PROGRAMS = {
    "qsub": qsub,
    "qstat": qstat,
    "qdel": qdel,
    "pbsnodes": lambda: sample("nodes.json"),
    "pbs_rstat": lambda: sample("reservations.txt"),
}
PROGRAMS[os.path.basename(sys.argv[0])]()
