"""Ends of connections: who hears of what, in every order."""

import os
import select
import signal
import socket
import threading
import time

from ends import attempt, exactly, fill, is_idle, say, until_end


def settle():
    """Longer than a FIN or RST takes."""
    time.sleep(0.1)


def poll_bits(peer):
    poll = select.poll()
    poll.register(peer, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    return [events for _, events in poll.poll(0)]


def error_of(peer):
    return peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def report(peer):
    """What a program can learn of an end: every answer three times, as some come only once."""
    say("poll", poll_bits(peer))
    say("recv", [attempt(peer.recv, 100, socket.MSG_DONTWAIT) for _ in range(3)])
    say("send", [attempt(peer.send, b"more", socket.MSG_NOSIGNAL) for _ in range(3)])
    say("error", error_of(peer), "poll", poll_bits(peer))
    say("name", attempt(peer.getpeername) == "ENOTCONN")


def one_side_acts(name, act, prepare=None, before=None):
    """The client does something to the end of the connection, and the server reports; and the other way round."""

    def actor(at):
        peer = at.moved()
        if before:
            before(peer)
        at.meet("prepared")
        settle()
        act(peer)
        at.meet("done")
        at.meet("reported")

    def witness(at):
        peer = at.moved()
        if prepare:
            prepare(peer)
        at.meet("prepared")
        at.meet("done")
        settle()
        report(peer)
        at.meet("reported")

    for number, (first, second) in {"client": ("client", "server"), "server": ("server", "client")}.items():
        globals()[f"{name}_by_{number}_{first}"] = actor
        globals()[f"{name}_by_{number}_{second}"] = witness


def send_some(peer):
    peer.sendall(b"unread")


def close(peer):
    peer.close()


def half_close(peer):
    peer.shutdown(socket.SHUT_WR)


def close_both_halves(peer):
    peer.shutdown(socket.SHUT_RDWR)


def read_half_then_close(peer):
    exactly(peer, 3)
    peer.close()


def linger_close(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()


one_side_acts("close_clean", close)
one_side_acts("close_after_sending", close, before=send_some)
one_side_acts("close_with_unread", close, prepare=send_some)
one_side_acts("close_with_half_read", read_half_then_close, prepare=send_some)
one_side_acts("close_crossing", close, prepare=send_some, before=send_some)
one_side_acts("linger_close", linger_close, before=send_some)
one_side_acts("shutdown_both", close_both_halves)


def halves(at, order):
    """Both ends shut halves down in some order, and each step is looked at from both sides."""
    peer = at.moved()
    for turn, (role, how) in enumerate(order):
        at.meet("step")
        if role == at.role:
            say(turn, "shutdown", attempt(peer.shutdown, how))
        at.meet("shut")
        settle()
        say(turn, "poll", poll_bits(peer))
        at.meet("polled")
        if turn == 0:
            # The other direction still works.
            if at.role == role and how == socket.SHUT_WR:
                say("hears", exactly(peer, 4))
            elif at.role != role and how == socket.SHUT_WR:
                peer.sendall(b"tail")
        at.meet("tail")
        say(turn, "recv", attempt(peer.recv, 100, socket.MSG_DONTWAIT))
        at.meet("next")
    # One after the other: what the first send provokes may change what the second one hears.
    for role in ("client", "server"):
        at.meet("send")
        if role == at.role:
            say("send", attempt(peer.send, b"x", socket.MSG_NOSIGNAL))
    at.meet("end")
    peer.close()


READ, WRITE, BOTH = socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR
ORDERS = {
    "write_write": [("client", WRITE), ("server", WRITE)],
    "server_first": [("server", WRITE), ("client", WRITE)],
    "write_both": [("client", WRITE), ("server", BOTH)],
    "read_write": [("client", READ), ("client", WRITE)],
    "both_write": [("client", BOTH), ("server", WRITE)],
    "twice": [("client", WRITE), ("client", WRITE)],
}
for label, order in ORDERS.items():
    globals()[f"halves_{label}_client"] = globals()[f"halves_{label}_server"] = lambda at, order=order: halves(at, order)


def broken_pipe_client(at):
    """SIGPIPE, and EPIPE without it."""
    peer = at.moved()
    heard = []
    signal.signal(signal.SIGPIPE, lambda number, frame: heard.append(number))
    peer.shutdown(socket.SHUT_WR)
    say("write", attempt(os.write, peer.fileno(), b"x"), len(heard))
    say("send", attempt(peer.send, b"x"), len(heard))
    say("quietly", attempt(peer.send, b"x", socket.MSG_NOSIGNAL), len(heard))
    say("writev", attempt(os.writev, peer.fileno(), [b"x", b"y"]), len(heard))
    at.meet("close")
    at.meet("closed")
    say("end", peer.recv(1))


def broken_pipe_server(at):
    peer = at.moved()
    heard = []
    signal.signal(signal.SIGPIPE, lambda number, frame: heard.append(number))
    say("end", peer.recv(1))
    at.meet("close")
    peer.close()
    at.meet("closed")


def sigpipe_kills_client(at):
    """Without a handler the signal ends the process."""
    peer = at.moved()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        peer.shutdown(socket.SHUT_WR)
        peer.send(b"x")
        os._exit(0)
    say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGPIPE)


def sigpipe_kills_server(at):
    peer = at.moved()
    say("end", until_end(peer))


def full_then_close_client(at):
    """Everything that was sent before a close arrives, however much it is."""
    peer = at.moved()
    sent = fill(peer)
    peer.close()
    at.meet("closed")
    at.side.sendall(b"%020d" % sent)


def full_then_close_server(at):
    peer = at.moved()
    at.meet("closed")
    settle()
    sent = int(at.side.recv(20, socket.MSG_WAITALL))
    say("all", len(until_end(peer)) == sent)


def blocked_sender(name, act, result):
    """A thread that sleeps in a full send hears of the other side's end."""

    def client(at):
        peer = at.moved()
        fill(peer)
        peer.setblocking(True)
        at.meet("full")
        say("send", result(attempt(peer.send, bytes(1 << 24), socket.MSG_NOSIGNAL)))
        say("then", attempt(peer.send, b"x", socket.MSG_NOSIGNAL))
        at.meet("over")

    def server(at):
        peer = at.moved()
        at.meet("full")
        time.sleep(0.3)
        act(peer)
        at.meet("over")

    globals()[f"{name}_client"], globals()[f"{name}_server"] = client, server


blocked_sender("close_wakes_sender", close, lambda answer: answer)


def shutdown_wakes(at):
    """shutdown by another thread ends a sleeping recv of the same process."""
    peer = at.moved()
    if at.role == "client":
        heard = []
        reader = threading.Thread(target=lambda: heard.append(peer.recv(10)))
        reader.start()
        time.sleep(0.2)
        peer.shutdown(socket.SHUT_RD)
        reader.join(5)
        say("heard", heard)
    at.meet("over")


shutdown_wakes_client = shutdown_wakes_server = shutdown_wakes


def keeps_its_socket(at):
    """A thread sleeps in recv while another one closes the descriptor: the call, and with it the connection, goes on, and
    nobody reads what has the number next."""
    for moved in (False, True):
        peer = at.moved() if moved else at.open()
        if not moved:
            at.warm(peer, 1)
        if at.role == "server":
            other = at.open()
            fd, heard = peer.detach(), []
            reader = threading.Thread(target=lambda: heard.append(os.read(fd, 100)))
            reader.start()
            time.sleep(0.1)
            os.close(fd)
            os.dup2(other.fileno(), fd)
            say("idle", is_idle(lambda: time.sleep(1)))
            at.meet("closed")
            reader.join()
            at.meet("heard")
            say("heard", heard, "the other's", os.read(fd, 100))
            os.close(fd)
        else:
            other = at.open()
            other.sendall(b"other")
            at.meet("closed")
            peer.sendall(b"hello")
            at.meet("heard")
            say("end", peer.recv(1))


keeps_its_socket_client = keeps_its_socket_server = keeps_its_socket


def dies_in_child(at, life):
    """A child has the connection and is killed when it says that it is ready."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        life(at, lambda: os.write(tell, b"x"))
        os._exit(1)
    os.read(ready, 1)
    at.meet("kill")
    time.sleep(0.3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    at.meet("killed")


def half_closed(at, say_ready):
    peer = at.moved()
    peer.shutdown(socket.SHUT_WR)
    say_ready()
    time.sleep(60)


def never_answers(at, say_ready):
    peer = at.open()
    at.warm(peer, 2)
    # The last reply may have come after this end last looked for an offer, which is there by now.
    attempt(peer.recv, 1, socket.MSG_DONTWAIT)
    say_ready()
    time.sleep(60)


def killed_after_half_close_client(at):
    dies_in_child(at, half_closed)


def killed_after_half_close_server(at):
    """A sender sleeps with everything full; the peer, which had shut its own direction down, is killed."""
    peer = at.moved()
    say("end", peer.recv(1))
    at.meet("kill")
    answers = []
    while not answers or isinstance(answers[-1], int):
        answers.append(attempt(peer.send, bytes(1 << 20), socket.MSG_NOSIGNAL))
    say("send", answers[-1] in ("ECONNRESET", "EPIPE"))
    at.meet("killed")


def killed_unheard_client(at):
    dies_in_child(at, never_answers)


def killed_unheard_server(at):
    """Who polls for space alone hears of the death of a peer that has sent nothing through shared memory."""
    peer = at.open()
    at.warm(peer, 2)
    fill(peer)
    at.meet("kill")
    poll = select.poll()
    poll.register(peer, select.POLLOUT)
    say("polled", len(poll.poll(5000)))
    at.meet("killed")


def shut_before_moving_client(at):
    """SHUT_RD ends a sleeping recv also where the other direction has not moved, or cannot."""
    peer = at.open()
    for turn in range(40):
        peer.sendall(b"%08d" % turn)
        time.sleep(0.001)
    heard = []
    reader = threading.Thread(target=lambda: heard.append(peer.recv(10)))
    reader.start()
    time.sleep(0.1)
    peer.shutdown(socket.SHUT_RD)
    reader.join(5)
    say("heard", heard, "poll", poll_bits(peer))
    at.meet("over")


def shut_before_moving_server(at):
    peer = at.open()
    say(len(exactly(peer, 320)))
    at.meet("over")


def duplicate_closed_under_sender(at):
    """A thread sleeps in send on one of two descriptors, which another thread closes and whose number becomes something
    else: the bytes, and the end, stay with the connection."""
    peer = at.moved()
    if at.role == "server":
        at.meet("closed")
        time.sleep(0.1)
        say("all", len(until_end(peer)) > 0)
        return
    twin, fd = peer.dup(), peer.detach()
    sent = fill(twin)
    twin.setblocking(True)
    answers = []
    sender = threading.Thread(target=lambda: answers.append(os.write(fd, bytes(1 << 20))))
    sender.start()
    time.sleep(0.2)
    one, other = socket.socketpair()
    os.dup2(one.fileno(), fd)
    at.meet("closed")
    sender.join()
    say("sent", sent > 0, answers, "the stranger", attempt(other.recv, 10, socket.MSG_DONTWAIT))
    os.close(fd)
    twin.close()


duplicate_closed_under_sender_client = duplicate_closed_under_sender_server = duplicate_closed_under_sender
