"""A server that forks a child for each connection, and a client with four connections at once; lines are compared."""

import socket
import socketserver
import sys

CONNECTIONS = 4
LINES = 2000


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


def serve(port):
    socketserver.ForkingTCPServer.allow_reuse_address = True
    with socketserver.ForkingTCPServer(("127.0.0.1", port), Echo) as server:
        server.serve_forever()


def converse(port):
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    answers = [connection.makefile("rb") for connection in connections]
    for number in range(LINES):
        for at, connection in enumerate(connections):
            line = b"%d of %d\n" % (number, at)
            connection.sendall(line)
            answer = answers[at].readline()
            assert answer == line, (line, answer)
    print("verified", CONNECTIONS, flush=True)
    sys.stdin.read()


{"server": serve, "client": converse}[sys.argv[1]](int(sys.argv[2]))
