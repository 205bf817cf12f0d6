#!/usr/bin/env python3
"""qsub, qstat, qselect, qdel, pbsnodes and pbs_rstat of a PBS that runs on one machine, for tests.

No package of Debian has OpenPBS. This runs jobs as it does, one per `qsub`, as whoever asks, and
answers in its words. Each function says after what it is modelled:

- captured: what real ones printed, in api-server/testdata/pbs/captured and tests/captured.rs of the
  same: the words of messages, a `host:` before files, Variable_List as an object;
- OpenPBS' sources, by the names of files: exit codes, which are the low bytes of the errors'
  numbers (pbs_error.h), and what a function names;
- nothing: how a job ends was compared with neither.

Nodes, queues, server and reservations are the samples of api-server/testdata/pbs, which were written
after PBS' documentation. They are in `samples` beside this program, jobs in `spool`, which everybody
can write. Where there is a file `no-history`, the server keeps no history, as real ones unless they
are told to. Called by the name of one of the programs.
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

# qsub may be started with next to no environment.
PLACE = os.path.dirname(os.path.realpath(sys.argv[0]))
SPOOL = f"{PLACE}/spool"
SAMPLES = f"{PLACE}/samples"
KEEPS_HISTORY = not os.path.exists(f"{PLACE}/no-history")
NO_HISTORY = "PBS is not configured to maintain job history"
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
    """The words are captured."""
    number = text.split(".")[0]
    try:
        with open(path(number, "json")) as file:
            return number, json.load(file)
    except FileNotFoundError:
        return fail(program, f"Unknown Job Id {number}.{SERVER}", UNKNOWN_JOB)


def now():
    """As ctime(3) (qstat.c), and captured."""
    return time.strftime("%a %b %e %H:%M:%S %Y")


def copied(text, at, whole):
    """One value as `copy_env_value` of qsub.c copies it, and where the next variable begins; None if
    a quote is not closed. A `whole` value is one of the environment: it is quoted. In a list it ends
    at a comma, a quote goes and takes the meaning from commas up to the next one, and a backslash is
    doubled, unless a comma is behind it, which newer versions leave alone."""
    out, quote = [], None
    while at < len(text):
        char = text[at]
        at += 1
        if char in "'\"":
            if quote == char:
                quote = None
            elif quote or whole:
                out += ["\\", char]
            else:
                quote = char
        elif char == "\\":
            if not whole and text[at : at + 1] == ",":
                out += ["\\", ","]
                at += 1
            else:
                out += ["\\", "\\"]
        elif char == ",":
            if not quote and not whole:
                break
            out += ["\\", ","]
        else:
            out.append(char)
    return None if quote else ("".join(out), at)


def listed(text):
    """What `-v` lists, as `set_job_env` of qsub.c makes it; None if it is no list. It is made twice:
    `expand_varlist` does so before."""
    pairs, at = [], 0
    while at < len(text):
        name = re.compile("[^,=]+").match(text, at)
        if not name:
            return None
        at = name.end()
        if text[at : at + 1] == "=":
            value = copied(text, at + 1, False)
            if value is None:
                return None
            value, at = value
        else:
            value = os.environ.get(name.group())
            if value is None:
                return None
            value, at = copied(value, 0, True)[0], at + 1
        pairs.append(f"{name.group()}={value}")
    return ",".join(pairs)


def variables(asked):
    """What qsub sends (`set_job_env` of qsub.c), read as the server reads it (`parse_comma_string_bs`
    of attr_fn_arst.c): the last of a name counts."""
    parts = []
    if asked.v:
        text = listed(asked.v)
        text = None if text is None else listed(text)
        if text is None:
            fail("qsub", "cannot send environment with the job", 3)
        parts.append(text)
    if asked.V:
        parts += [f"{name}={copied(value, 0, True)[0]}" for name, value in os.environ.items()]
    found = {}
    for pair in re.findall(r"((?:[^\\,]|\\.)+)", ",".join(parts), re.DOTALL):
        name, value = re.sub(r"\\(.)", r"\1", pair.strip(), flags=re.DOTALL).split("=", 1)
        if not name.startswith("PBS_O_"):
            found[name] = value
    return found


def qsub():
    """The words are captured; the script comes as a file or through standard input (qsub.c)."""
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
    given = variables(asked)
    number = 1000
    while True:
        try:
            os.close(os.open(path(number, "id"), os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            number += 1
    name = asked.N or "STDIN"
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
    """As pbs_mom (start_exec.c): with the variables of the job below its own, from the home directory, by the login shell, its files delivered at the end."""
    environment = {"PATH": "/usr/bin:/bin"}
    environment.update({name: str(value) for name, value in job["Variable_List"].items()})
    environment.update(HOME=os.environ["HOME"], PBS_JOBID=f"{number}.{SERVER}")
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
    if not KEEPS_HISTORY:
        os.remove(path(number, "json"))
        return
    job.update(job_state="F", Exit_status=status if status >= 0 else 256 - status)
    job["resources_used"] = {"cput": "00:00:00", "mem": "0kb", "ncpus": 1, "walltime": taken}
    save(number, job)


def qdel():
    """The words are captured."""
    number, job = load("qdel", sys.argv[1])
    if job["Job_Owner"].split("@")[0] != getpass.getuser():
        fail("qdel", f"Unauthorized Request  {number}.{SERVER}", DENIED)
    if job["job_state"] == "F":
        fail("qdel", f"Job has finished {number}.{SERVER}", FINISHED)
    os.killpg(job["session_id"], signal.SIGTERM)


def sample(name):
    with open(f"{SAMPLES}/{name}") as file:
        sys.stdout.write(file.read())


def everybodys():
    """All jobs; one may go meanwhile."""
    for name in os.listdir(SPOOL):
        if name.endswith(".json"):
            try:
                with open(f"{SPOOL}/{name}") as file:
                    yield name[:-5], json.load(file)
            except FileNotFoundError:
                pass


def qselect():
    """Ids, one a line, of those that have not ended unless there is `-x`; without history that is
    refused, with exit status 0 (qselect.c)."""
    parser = argparse.ArgumentParser("qselect")
    parser.add_argument("-x", action="store_true")
    parser.add_argument("-u", required=True)
    asked = parser.parse_args()
    if asked.x and not KEEPS_HISTORY:
        fail("qselect", NO_HISTORY, 0)
    for number, job in everybodys():
        if job["Job_Owner"].split("@")[0] == asked.u and (asked.x or job["job_state"] != "F"):
            print(f"{number}.{SERVER}")


def known(jobs):
    """Those of these jobs that there are (req_stat.c): it is an error when there is none."""
    found = []
    for job in jobs:
        try:
            found.append(load("qstat", job))
        except SystemExit:
            if len(jobs) == 1:
                raise
    return found


def qstat():
    """The form is captured; no `Jobs` when there are none, jobs under their full ids, and exit status
    0 where there is no history to be told of, with the words on standard error (qstat.c)."""
    parser = argparse.ArgumentParser("qstat")
    parser.add_argument("-F", required=True, choices=["json"])
    for option in "fxEQB":
        parser.add_argument(f"-{option}", action="store_true")
    parser.add_argument("job", nargs="*")
    asked = parser.parse_args()
    if asked.Q or asked.B:
        return sample("queues.json" if asked.Q else "server.json")
    if asked.x and not KEEPS_HISTORY:
        print(f"qstat: {NO_HISTORY}", file=sys.stderr)
        jobs = []
    else:
        jobs = known(asked.job) if asked.job else list(everybodys())
    shown = {f"{number}.{SERVER}": job for number, job in jobs if asked.x or job["job_state"] != "F"}
    answer = {"timestamp": int(time.time()), "pbs_version": "23.06.06", "pbs_server": SERVER}
    if shown:
        answer["Jobs"] = shown
    json.dump(answer, sys.stdout, indent=4, separators=(",", ":"))


PROGRAMS = {
    "qsub": qsub,
    "qselect": qselect,
    "qstat": qstat,
    "qdel": qdel,
    "pbsnodes": lambda: sample("nodes.json"),
    "pbs_rstat": lambda: sample("reservations.txt"),
}
PROGRAMS[os.path.basename(sys.argv[0])]()
