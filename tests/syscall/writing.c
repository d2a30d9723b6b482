/* Sending: full connections, partial results, order, cork and MORE, linger, empty sends. */
#include "facts.h"

static char big[8 << 20], room[64];

static void full(void)
{
    int fd = moved();
    nonblocking(fd, true);
    long part = send(fd, big, sizeof big, 0);
    fact("a large non-blocking send", "%d", part > 0 && part < (long)sizeof big);
    part += fill(fd);
    fact("full", "%s", r(send(fd, "x", 1, 0)));
    fact("full: write", "%s", r(write(fd, "x", 1)));
    fact("full: nothing", "%s", r(send(fd, "", 0, 0)));
    fact("full: poll", "%s", bits(looked(fd, 0)));
    nonblocking(fd, false);
    fact("full: DONTWAIT", "%s", r(send(fd, "x", 1, MSG_DONTWAIT)));
    peer_send(fd, "other way");
    fact("full: the other way", "%s", text(recv(fd, room, sizeof room, 0), room));
    close(fd);
    fact("full, closed: all arrives", "%d", peer_drain(fd) == part);

    fd = moved();
    later(10);
    peer_drain(fd);
    fact("a large blocking send", "%d", send(fd, big, sizeof big, 0) == sizeof big);
    fact("a large blocking write", "%d", write(fd, big, sizeof big) == sizeof big);
    struct iovec parts[3] = {{big, 1 << 20}, {big, 3}, {big, 3 << 20}};
    fact("a large blocking writev", "%d", writev(fd, parts, 3) == (4 << 20) + 3);
    close(fd);
    peer_done();
}

static void in_order(void)
{
    int fd = moved();
    pattern(big, 0, 3 << 20);
    later(5);
    peer_take(fd, 3 << 20);
    size_t done = 0;
    for (int turn = 0; done < 3 << 20; turn++) {
        size_t part = (turn * 7919) % 60000 + 1;
        if (part > (3 << 20) - done)
            part = (3 << 20) - done;
        long sent = turn % 2 ? send(fd, big + done, part, 0) : write(fd, big + done, part);
        if (sent <= 0)
            break;
        done += sent;
    }
    fact("sent in many pieces", "%zu", done);
    peer_done();
    fact("and nothing more", "%s", peer_read(fd, 8));
    fact("from the peer", "%ld", peer_send_pattern(fd, 100000));
    long got = recv(fd, big, 100000, MSG_WAITALL);
    fact("right", "%ld", (long)matching(big, 0, got));
    close(fd);
}

static void corked(void)
{
    int fd = moved(), on = 1, off = 0;
    fact("MORE", "%s", r(send(fd, "ab", 2, MSG_MORE)));
    fact("after MORE", "%s", r(send(fd, "cd", 2, 0)));
    nap(20);
    fact("MORE arrives", "%s", peer_read(fd, 64));
    setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
    send(fd, "ef", 2, 0);
    send(fd, "gh", 2, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
    nap(20);
    fact("uncorked", "%s", peer_read(fd, 64));
    setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
    send(fd, "ij", 2, 0);
    shutdown(fd, SHUT_WR);
    nap(20);
    fact("corked, then SHUT_WR", "%s", peer_read(fd, 64));
    fact("and the end", "%s", peer_read(fd, 64));
    close(fd);
    fd = moved();
    setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
    send(fd, "kl", 2, 0);
    close(fd);
    nap(20);
    fact("corked, then closed", "%s", peer_read(fd, 64));
}

static void lingering(void)
{
    int fd = moved();
    struct linger linger = {1, 5};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    long sent = fill(fd);
    later(30);
    peer_take(fd, sent);
    fact("lingering close", "%s", r(close(fd)));
    peer_done();
    fact("lingering close: all arrived", "%s", peer_read(fd, 8));
    fd = moved();
    fact("an empty send", "%s", r(send(fd, "", 0, 0)));
    fact("an empty write", "%s", r(write(fd, "", 0)));
    fact("an empty read", "%s", r(read(fd, room, 0)));
    nap(10);
    fact("nothing arrives", "%s", peer_read(fd, 8));
    fact("unknown flags", "%s", r(send(fd, "x", 1, 0x800000)));
    fact("CONFIRM and DONTROUTE", "%s", r(send(fd, "y", 1, MSG_CONFIRM | MSG_DONTROUTE)));
    fact("arrive", "%s", peer_wait_read(fd, 8));
    close(fd);
}

void subject(void)
{
    full();
    in_order();
    corked();
    lingering();
}
