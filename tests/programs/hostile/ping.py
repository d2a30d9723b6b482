"""An ordinary client of an echo server: `ping.py PORT ROUNDS [PAUSE]`. After PAUSE rounds it says so, waits for a line of
input, and says when it has sent the next message."""

import socket
import sys

port, rounds = int(sys.argv[1]), int(sys.argv[2])
pause = int(sys.argv[3]) if len(sys.argv) > 3 else -1
with socket.create_connection(("127.0.0.1", port)) as peer:
    for turn in range(rounds):
        if turn == pause:
            print("paused", flush=True)
            sys.stdin.readline()
        message = b"%08d" % turn * 20
        peer.sendall(message)
        if turn == pause:
            print("sent", flush=True)
        answer = peer.recv(len(message), socket.MSG_WAITALL)
        if answer != message:
            raise ValueError(f"turn {turn}: {answer} is not {message}")
    print("verified", rounds, flush=True)
    sys.stdin.readline()
