"""Downloads and uploads through pyfirecrest, as its users write it.

Arguments: API URL, token URL, client id, system, method, source, local copy, target, times. The client's secret is
read from standard input. Prints the SHA-256 of each local copy.
"""

import hashlib
import os
import sys

import firecrest

api, token_url, client, system, method, source, copy, target, times = sys.argv[1:]
secret = sys.stdin.readline().strip()
authorization = firecrest.ClientCredentialsAuth(client, secret, token_url)
firecrest = firecrest.v2.Firecrest(firecrest_url=api, authorization=authorization)
# Small and empty files, too, take the way of large ones.
firecrest.MAX_DIRECT_UPLOAD_SIZE = 0
for number in range(int(times)):
    local = f"{copy}{number}"
    firecrest.download(system, source, local, transfer_method=method)
    with open(local, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        print(digest.hexdigest(), flush=True)
    directory, name = os.path.split(f"{target}{number}")
    firecrest.upload(system, local, directory, name, transfer_method=method)
