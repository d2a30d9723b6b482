"""Eight connections, a thread for each, set, get and delete values, and compare every answer."""

import random
import socket
import sys
import threading

CONNECTIONS = 8
VALUES = 300
verified = []


def converse(number):
    source = random.Random(number)
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    answers = connection.makefile("rb")

    def ask(request, expected):
        connection.sendall(request)
        answer = answers.read(len(expected))
        assert answer == expected, f"connection {number}: {request[:40]} was answered with {answer[:40]}"

    for at in range(VALUES):
        key = b"%d:%d" % (number, at)
        value = source.randbytes(source.choice((source.randrange(1, 2000), source.randrange(1, 500_000))))
        ask(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value), b"STORED\r\n")
        ask(b"get %s\r\n" % key, b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (key, len(value), value))
        ask(b"delete %s\r\n" % key, b"DELETED\r\n")
        verified.append(key)
    connection.close()


threads = [threading.Thread(target=converse, args=(number,)) for number in range(CONNECTIONS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("verified", len(verified))
