"""Who waits uses no processor time, whatever the TCP socket underneath has to say all the time."""

import select
import socket
import threading
import time

from ends import fill, is_idle, say

IN, OUT, RDHUP, ET = select.EPOLLIN, select.EPOLLOUT, select.EPOLLRDHUP, select.EPOLLET


def partner(at, first=None):
    """The other end of all of these: does one thing and then nothing, until the test is over."""
    peer = at.moved()
    if first:
        first(peer)
    at.meet("ready")
    at.meet("over")


def half_close(peer):
    peer.shutdown(socket.SHUT_WR)


def waits(name, first, measure):
    def client(at):
        peer = at.moved()
        at.meet("ready")
        time.sleep(0.1)
        measure(at, peer)
        at.meet("over")

    globals()[f"{name}_client"] = client
    globals()[f"{name}_server"] = lambda at: partner(at, first)


def poll_for(peer, events, milliseconds=1000):
    poll = select.poll()
    poll.register(peer, events)
    return poll.poll(milliseconds)


def epoll_for(peer, events):
    epoll = select.epoll()
    epoll.register(peer, events)
    return epoll


def level(at, peer):
    epoll = epoll_for(peer, IN | RDHUP)
    say("epoll", is_idle(lambda: epoll.poll(1)), "poll", is_idle(lambda: poll_for(peer, select.POLLIN)))
    say("select", is_idle(lambda: select.select([peer], [], [], 1)))


def after_fin(at, peer):
    """Edge-triggered, an end of stream is told once."""
    epoll = epoll_for(peer, IN | OUT | RDHUP | ET)
    say("told", [events for _, events in epoll.poll(1)], "read", peer.recv(1))
    say("edge", is_idle(lambda: epoll.poll(1)))
    other = epoll_for(peer, 0)
    say("no events", is_idle(lambda: other.poll(1)), "poll", is_idle(lambda: poll_for(peer, 0)))


def after_close(at, peer):
    epoll = epoll_for(peer, IN | RDHUP | ET)
    say("told", [events for _, events in epoll.poll(1)], "read", peer.recv(1))
    say("edge", is_idle(lambda: epoll.poll(1)))


def fill_all(peer):
    """A ring that goes unread for a second gives way to TCP's buffers: these are filled, too."""
    fill(peer)
    while poll_for(peer, select.POLLOUT, 1500):
        fill(peer)


def full(at, peer):
    fill(peer)
    epoll, edge = epoll_for(peer, OUT), epoll_for(peer, IN | OUT | ET)
    say("epoll", is_idle(lambda: epoll.poll(0.7)))
    fill_all(peer)
    epoll.poll(0), edge.poll(0)
    say("epoll", is_idle(lambda: epoll.poll(1)), "edge", is_idle(lambda: edge.poll(1)))
    say("poll", is_idle(lambda: poll_for(peer, select.POLLOUT | select.POLLIN)))
    say("select", is_idle(lambda: select.select([], [peer], [], 1)))


def full_after_fin(at, peer):
    fill(peer)
    epoll = epoll_for(peer, OUT)
    say("epoll", is_idle(lambda: epoll.poll(0.7)))
    fill_all(peer)
    say("epoll", is_idle(lambda: epoll.poll(1)), "poll", is_idle(lambda: poll_for(peer, select.POLLOUT)))


def blocked_in_send(at, peer):
    fill(peer)
    peer.setblocking(True)
    sender = threading.Thread(target=lambda: peer.sendall(bytes(1 << 20)), daemon=True)
    sender.start()
    say("send", is_idle(lambda: time.sleep(1)))


def blocked_in_recv(at, peer):
    reader = threading.Thread(target=peer.recv, args=(1,), daemon=True)
    reader.start()
    say("recv", is_idle(lambda: time.sleep(1)))


def own_half_closed(at, peer):
    peer.shutdown(socket.SHUT_WR)
    epoll = epoll_for(peer, IN | RDHUP)
    say("epoll", is_idle(lambda: epoll.poll(1)), "poll", is_idle(lambda: poll_for(peer, select.POLLIN)))


def several_sets(at, peer):
    """Threads that wait in one set and in others for the same connection."""
    sets = [epoll_for(peer, IN), epoll_for(peer, IN | ET)]
    threads = [threading.Thread(target=s.poll, args=(1.2,)) for s in sets * 2]
    for thread in threads:
        thread.start()
    say("threads", is_idle(lambda: time.sleep(1)))
    for thread in threads:
        thread.join()


waits("level", None, level)
waits("after_fin", half_close, after_fin)
waits("after_close", lambda peer: peer.close(), after_close)
waits("full", None, full)
waits("full_after_fin", half_close, full_after_fin)
waits("blocked_in_send", None, blocked_in_send)
waits("blocked_in_recv", None, blocked_in_recv)
waits("own_half_closed", None, own_half_closed)
waits("several_sets", None, several_sets)
