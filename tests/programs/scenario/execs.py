"""Programs that hand a connection to the next one: exec, as inetd's children and re-executing servers do."""

import ctypes
import os
import socket
import sys
import threading
import time

from ends import End, attempt, exactly, say, until_end
from successors import begin, go_on, serve, under_way, under_way_client

HANDED_OVER = "handed over"


def moved_server(at):
    """It moved; both directions have bytes on their way when the program is replaced."""
    under_way(at, go_on)


moved_client = under_way_client


def moves_later_server(at):
    """The next program is the one that moves it."""
    peer = at.open()
    at.warm(peer, 1)
    at.warm(peer, 1)
    go_on(moves_later_next, peer)


def moves_later_next(peer):
    serve(peer, 30)
    peer.close()
    print("finished", flush=True)


def moves_later_client(at):
    peer = at.open()
    at.warm(peer, 1)
    at.warm(peer, 1)
    at.warm(peer, 30)
    say("end", peer.recv(1))


def active_end_server(at):
    peer = at.moved()
    for _ in range(3):
        serve(peer, 10)
    say("end", peer.recv(1))


def active_end_client(at):
    """The end that connected is replaced, three times."""
    go_on(active_end_1, at.moved())


def ask(peer, rounds):
    at = End.__new__(End)
    at.role = "client"
    at.warm(peer, rounds)


def active_end_1(peer):
    ask(peer, 10)
    go_on(active_end_2, peer)


def active_end_2(peer):
    ask(peer, 10)
    go_on(active_end_3, peer)


def active_end_3(peer):
    ask(peer, 10)
    peer.close()
    print("finished", flush=True)


def inetd(at, program, *words):
    """Each connection is served by a program that has it as input and output."""
    hand_over(at, at.open(), program, *words)


def lines(at, count):
    peer = at.open()
    at.meet(HANDED_OVER)
    for number in range(count):
        peer.sendall(b"line %d\n" % number)
        expected = b"got line %d\n" % number
        assert exactly(peer, len(expected)) == expected
    peer.shutdown(socket.SHUT_WR)
    say("then", until_end(peer))


def inetd_python_server(at):
    inetd(at, sys.executable, "-c", """
import os
while line := os.read(0, 100):
    os.write(1, b"got " + line)
""")


def inetd_python_client(at):
    lines(at, 30)


def inetd_shell_server(at):
    inetd(at, "sh", "-c", 'while read line; do echo "got $line"; done')


def inetd_shell_client(at):
    lines(at, 30)


def inetd_buffered_server(at):
    """bash writes through stdio, and its children write themselves, in turn."""
    script = 'while read line; do echo -n "got "; if ((++n <= 20 || n % 2)); then echo "$line"; else printf "%s\\n" "$line" | cat; fi; done'
    inetd(at, "bash", "-c", script)


def inetd_buffered_client(at):
    lines(at, 30)


def inetd_stdio_server(at):
    """A program that reads and writes its input and output with stdio alone."""
    inetd(at, "sed", "-u", "s/^/got /")


def inetd_stdio_client(at):
    lines(at, 30)


def hand_over(at, peer, program, *words):
    """A child has the connection as input and output; this process closes it. Until then it would not move: two hold it."""
    child = os.fork()
    if child == 0:
        os.dup2(peer.fileno(), 0)
        os.dup2(peer.fileno(), 1)
        os.closerange(3, 200)
        os.execvp(program, [program, *words])
    peer.close()
    at.meet(HANDED_OVER)
    say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def stdio_at_exit_server(at):
    """What stdio still holds is written when the program exits."""
    hand_over(at, at.moved(), "tr", "a-z", "A-Z")
    hand_over(at, at.moved(), "bash", "-c", "printf 'first '; exec cat")
    hand_over(at, at.moved(), "perl", "-e", "print while <STDIN>")


def stdio_at_exit_client(at):
    for _ in range(3):
        peer = at.moved()
        at.meet(HANDED_OVER)
        peer.sendall(b"line\n" * 5000)
        peer.shutdown(socket.SHUT_WR)
        answer = until_end(peer)
        say(len(answer), answer[:12], len(set(answer.split(b"\n"))))


def printed_server(at):
    """dprintf(3), with more arguments than there are registers, on a connection that has moved."""
    peer = at.moved()
    libc = ctypes.CDLL(None)
    half = ctypes.c_double(0.5)
    say(libc.dprintf(peer.fileno(), b"%d %s %d %d %d %d %.1f %d %.2f\n", 1, b"two", 3, 4, 5, 6, half, 8, half))
    say(libc.dprintf(peer.fileno(), b"plain\n"))
    say(libc.__dprintf_chk(peer.fileno(), 1, b"%d %d %d %d %d %.1f\n", 1, 2, 3, 4, 5, half))
    peer.sendall(b"x" * 5000)
    say(libc.dprintf(peer.fileno(), b"%s", b"y" * 100_000))


def printed_client(at):
    peer = at.moved()
    say(until_end(peer).replace(b"x" * 5000, b"x").replace(b"y" * 100_000, b"y"))


def moved_to_stdio_server(at):
    """It moved already; then a program that knows stdio alone has it."""
    hand_over(at, at.moved(), "sed", "-u", "s/^/got /")


def moved_to_stdio_client(at):
    peer = at.moved()
    at.meet(HANDED_OVER)
    for number in range(30):
        peer.sendall(b"line %d\n" % number)
        expected = b"got line %d\n" % number
        assert exactly(peer, len(expected)) == expected
    peer.shutdown(socket.SHUT_WR)
    say("then", until_end(peer))


def spawn(peer, program, *words):
    """A child made by posix_spawn has the connection as input and output; another descriptor of it is closed there."""
    actions = [(os.POSIX_SPAWN_DUP2, peer.fileno(), 0), (os.POSIX_SPAWN_DUP2, peer.fileno(), 1)]
    return os.posix_spawnp(program, [program, *words], os.environ, file_actions=actions)


def spawned_server(at):
    """Before it moved, and after; the parent closes it at once."""
    for open_one in (at.open, at.moved):
        peer = open_one()
        child = spawn(peer, "sed", "-u", "s/^/got /")
        peer.close()
        at.meet(HANDED_OVER)
        say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def spawned_client(at):
    for open_one in (at.open, at.moved):
        peer = open_one()
        at.meet(HANDED_OVER)
        for number in range(30):
            peer.sendall(b"line %d\n" % number)
            expected = b"got line %d\n" % number
            assert exactly(peer, len(expected)) == expected
        peer.shutdown(socket.SHUT_WR)
        say("then", until_end(peer))


def spawned_beside_server(at):
    """Children come and go, with and without the connection, while the parent goes on with it."""
    peer = at.moved()
    for turn in range(3):
        child = spawn(peer, "echo", "child %d" % turn)
        say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        at.warm(peer, 5)
        os.set_inheritable(peer.fileno(), turn == 1)
        child = os.posix_spawn("/bin/true", ["true"], os.environ)
        say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        say("no such", attempt(os.posix_spawn, "/no/such/program", ["program"], os.environ))
        at.warm(peer, 5)
    peer.close()
    at.meet("closed")


def spawned_beside_client(at):
    peer = at.moved()
    for turn in range(3):
        say(exactly(peer, 8))
        at.warm(peer, 5)
        at.warm(peer, 5)
    say("end", peer.recv(1))
    at.meet("closed")


def spawned_often_server(at):
    """Children that have the connection come and go at once: each is counted once."""
    peer = at.moved()
    os.set_inheritable(peer.fileno(), True)
    for _ in range(60):
        child = os.posix_spawn("/bin/true", ["true"], os.environ)
        os.waitpid(child, 0)
        at.warm(peer, 1)


def spawned_often_client(at):
    peer = at.moved()
    for _ in range(60):
        at.warm(peer, 1)
    say("end", peer.recv(1))


def fails_server(at):
    """There is no such program: this one goes on."""
    peer = at.moved()
    os.set_inheritable(peer.fileno(), True)
    say(attempt(os.execv, "/no/such/program", ["program"]), attempt(os.execv, "/etc/passwd", ["passwd"]))
    at.warm(peer)
    fresh = at.open()
    os.set_inheritable(fresh.fileno(), True)
    say(attempt(os.execv, "/no/such/program", ["program"]))
    at.warm(fresh, 20)


def fails_client(at):
    at.warm(at_moved := at.moved())
    fresh = at.open()
    at.warm(fresh, 20)
    at_moved.close()


def sleeper_server(at):
    """Another thread sleeps on the connection when the program is replaced."""
    peer = at.moved()
    threading.Thread(target=peer.recv, args=(10,), daemon=True).start()
    time.sleep(0.1)
    go_on(sleeper_next, peer)


def sleeper_next(peer):
    peer.sendall(b"replaced")
    serve(peer, 20)
    print("finished", flush=True)


def sleeper_client(at):
    peer = at.moved()
    say(exactly(peer, 8))
    at.warm(peer, 20)
    say("end", peer.recv(1))


def listener_server(at):
    """A server that is replaced by its new version: what the old one listened on, the new one accepts from."""
    at.warm(at.open(), 3)
    go_on(listener_next, at.listener)


def listener_next(listener):
    for _ in range(2):
        peer = listener.accept()[0]
        serve(peer, 20)
        peer.close()
    print("finished", flush=True)


def listener_client(at):
    at.warm(at.open(), 3)
    for _ in range(2):
        peer = at.open()
        at.warm(peer, 20)
        say("end", peer.recv(1))


if __name__ == "__main__":
    begin(globals())
