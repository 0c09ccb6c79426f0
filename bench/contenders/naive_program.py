"""naive_program.py HOSTS ZNODES RUN_ON_LOAD COMMAND...

An afternoon's work with kazoo and subprocess. ZNODES is a file with one path per line;
RUN_ON_LOAD is 0 or 1.
"""
import signal
import subprocess
import sys

from kazoo.client import KazooClient

hosts, znodes, run_on_load, *command = sys.argv[1:]
client = KazooClient(hosts)
client.start()


def watch(znode: str) -> None:
    is_due = run_on_load == '1'

    def changed(contents: bytes, stat: object) -> None:
        nonlocal is_due
        if stat and is_due:
            subprocess.run(command, input=contents)
        is_due = True

    client.DataWatch(znode, changed)


with open(znodes) as lines:
    for line in lines:
        watch(line.strip())
signal.pause()
