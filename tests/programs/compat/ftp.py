"""Four connections, a thread for each, store files and retrieve them, and compare every one."""

import ftplib
import io
import random
import sys
import threading

CONNECTIONS = 4
FILES = 25
verified = []


def converse(number):
    source = random.Random(number)
    server = ftplib.FTP()
    server.connect("127.0.0.1", int(sys.argv[1]))
    server.login()
    server.cwd("kept")
    for at in range(FILES):
        name = f"{number}.{at}"
        sent = source.randbytes(source.choice((10, 1000, 1_000_000)))
        server.storbinary(f"STOR {name}", io.BytesIO(sent))
        received = io.BytesIO()
        server.retrbinary(f"RETR {name}", received.write)
        assert received.getvalue() == sent, f"connection {number}: {name} came back with {len(received.getvalue())} bytes"
        verified.append(name)
    server.quit()


threads = [threading.Thread(target=converse, args=(number,)) for number in range(CONNECTIONS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("verified", len(verified))
