"""Four connections, a thread for each, put mails into a mailbox and fetch them, and compare every one."""

import imaplib
import random
import sys
import threading
import time

CONNECTIONS = 4
MAILS = 25
verified = []


def converse(number):
    source = random.Random(number)
    folder = f"folder{number}"
    server = imaplib.IMAP4("127.0.0.1", int(sys.argv[1]))
    server.noop()
    # Until then it is with the process that asks for passwords, where smcss sees it whatever becomes of it.
    time.sleep(0.5)
    server.login("someone", "secret")
    server.create(folder)
    for at in range(MAILS):
        body = source.randbytes(source.choice((10, 1000, 200_000))).hex().encode()
        mail = b"Subject: %d\r\n\r\n%s\r\n" % (at, body)
        assert server.append(folder, None, None, mail)[0] == "OK", f"connection {number}: mail {at} was refused"
        server.select(folder)
        received = server.fetch(str(at + 1), "(BODY[])")[1][0][1]
        assert received == mail, f"connection {number}: mail {at} came back as {received[:40]}"
        verified.append(at)
    server.logout()


threads = [threading.Thread(target=converse, args=(number,)) for number in range(CONNECTIONS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("verified", len(verified))
