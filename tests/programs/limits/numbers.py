"""How long descriptors that may be many take: `numbers.py PORT`. Connects to an echo server, then closes "all" that a
process can have, forks, and goes on."""

import os
import resource
import socket
import sys
import time

port = int(sys.argv[1])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
limit = min(1_000_000, hard)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
peer = socket.create_connection(("127.0.0.1", port))


def talk(turn):
    message = b"%08d" % turn * 10
    peer.sendall(message)
    assert peer.recv(len(message), socket.MSG_WAITALL) == message


for turn in range(20):
    talk(turn)
start = time.monotonic()
for _ in range(20):
    child = os.fork()
    if child == 0:
        # As daemons do before they start a program.
        os.closerange(3, limit)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
took = time.monotonic() - start
for fd in range(peer.fileno() + 1, limit):
    # What is not open, or the library's own, is no descriptor to the program.
    try:
        os.close(fd)
    except OSError:
        pass
for turn in range(20):
    talk(turn)
high = os.dup2(peer.fileno(), limit - 1)
peer.close()
peer = socket.socket(fileno=high)
for turn in range(20):
    talk(turn)
print("forks and closes", "fast" if took < 10 else f"took {took:.1f} s", flush=True)
print(limit, file=sys.stderr)
