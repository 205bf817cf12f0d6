"""Downloads and uploads by streamer through pyfirecrest, as its users write it.

Arguments: API URL, token URL, client id, source, local copy, target, times. The client's secret is read from
standard input. Prints the SHA-256 of each local copy.
"""

import hashlib
import os
import sys

import firecrest

api, token_url, client, source, copy, target, times = sys.argv[1:]
secret = sys.stdin.readline().strip()
authorization = firecrest.ClientCredentialsAuth(client, secret, token_url)
firecrest = firecrest.v2.Firecrest(firecrest_url=api, authorization=authorization)
for number in range(int(times)):
    local = f"{copy}{number}"
    firecrest.download("demo", source, local, transfer_method="streamer")
    with open(local, "rb") as file:
        print(hashlib.sha256(file.read()).hexdigest(), flush=True)
    directory, name = os.path.split(f"{target}{number}")
    firecrest.upload("demo", local, directory, name, transfer_method="streamer")
