"""Sends the recorded requests to a server and judges every answer that differs.

    replay.py CONTRACT_DIRECTORY DIFFERENCES.md RECORDING_OPTIONS…

CONTRACT_DIRECTORY holds differential.py and recordings/. A difference is allowed when a row of
the tables in DIFFERENCES.md covers it: `calls` and `difference` are regular expressions, matched
against the whole of a call's name and of `LEVEL WHERE: A | B`. A row that covers nothing is stale
and fails, too. The options go to `differential.py record`.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROW = re.compile(r"^\| `(?P<calls>[^`]+)` \| `(?P<difference>[^`]+)` \| (?P<reason>.+) \|$")


def rows(path):
    """The rows of the tables, with their reasons."""
    found = []
    for line in path.read_text().splitlines():
        if match := ROW.match(line):
            row = {key: text.replace("\\|", "|").strip() for key, text in match.groupdict().items()}
            row["used"] = 0
            found.append(row)
    return found


def differences(contract, options, directory):
    """Records, compares, and yields (call, difference)."""
    program = [sys.executable, str(contract / "differential.py")]
    subprocess.run([*program, "record", "--out", directory, *options], check=True)
    report = pathlib.Path(directory) / "report.json"
    recordings = contract / "recordings"
    command = [*program, "compare", str(recordings), directory]
    command += ["--volatile", str(recordings / "volatile.json"), "--json", str(report)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    report = json.loads(report.read_text())
    print(f"replayed: {json.dumps(report['summary'])}")
    for result in report["results"]:
        for level, where, detail in result["diffs"]:
            yield result["name"], f"{level} {where}: {detail}"


def main():
    contract, table = map(pathlib.Path, sys.argv[1:3])
    known = rows(table)
    unexplained = 0
    with tempfile.TemporaryDirectory() as directory:
        for call, difference in differences(contract, sys.argv[3:], directory):
            covering = [
                row for row in known
                if re.fullmatch(row["calls"], call)
                and re.fullmatch(row["difference"], difference, re.DOTALL)
            ]
            for row in covering:
                row["used"] += 1
            if not covering:
                unexplained += 1
                print(f"unexplained: {call}\n    {difference[:500]}")
    stale = [row for row in known if not row["used"]]
    for row in stale:
        print(f"stale: {row['calls']} {row['difference']}")
    print(f"{unexplained} unexplained differences, {len(stale)} stale rows of {len(known)}")
    return 1 if unexplained or stale else 0


if __name__ == "__main__":
    sys.exit(main())
