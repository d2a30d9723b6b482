/* shutdown in every order, seen from both ends: reads, writes, events and errors. */
#include "facts.h"

static char room[64];

static const char *receive(int fd, int flags)
{
    return text(recv(fd, room, sizeof room, flags | MSG_DONTWAIT), room);
}

static const char *transmit(int fd)
{
    return r(send(fd, "more", 4, MSG_NOSIGNAL));
}

static void say(const char *when, int fd)
{
    char what[80];
    nap(20);
    snprintf(what, sizeof what, "%s: this end", when);
    unsigned events = looked(fd, 0);
    fact(what, "%s, %s", bits(events), error(pending(fd)));
    snprintf(what, sizeof what, "%s: the other", when);
    events = peer_poll(fd);
    fact(what, "%s, %s", bits(events), error(peer_pending(fd)));
}

static void write_side(void)
{
    int fd = moved();
    send(fd, "last", 4, 0);
    fact("SHUT_WR", "%s", r(shutdown(fd, SHUT_WR)));
    say("SHUT_WR", fd);
    fact("SHUT_WR: send", "%s", transmit(fd));
    fact("SHUT_WR: empty send", "%s", r(send(fd, "", 0, MSG_NOSIGNAL)));
    fact("SHUT_WR: read", "%s", receive(fd, 0));
    fact("SHUT_WR: the peer reads", "%s", peer_read(fd, 64));
    fact("SHUT_WR: and then", "%s", peer_read(fd, 64));
    fact("SHUT_WR: and again", "%s", peer_read(fd, 64));
    fact("SHUT_WR: the peer sends", "%s", r(peer_send(fd, "answer")));
    fact("SHUT_WR: this end reads", "%s", receive(fd, 0));
    fact("SHUT_WR twice", "%s", r(shutdown(fd, SHUT_WR)));
    fact("the peer's SHUT_WR", "%s", r(peer_shutdown(fd, SHUT_WR)));
    say("both SHUT_WR", fd);
    fact("both SHUT_WR: read", "%s", receive(fd, 0));
    fact("both SHUT_WR: the peer sends", "%s", r(peer_send(fd, "x")));
    fact("both SHUT_WR: shutdown", "%s", r(shutdown(fd, SHUT_RD)));
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    fact("both SHUT_WR: getpeername", "%s", r(getpeername(fd, (void *)&name, &size)));
    close(fd);
}

static void read_side(void)
{
    int fd = moved();
    peer_send(fd, "before");
    fact("SHUT_RD", "%s", r(shutdown(fd, SHUT_RD)));
    say("SHUT_RD", fd);
    fact("SHUT_RD: read", "%s", receive(fd, 0));
    fact("SHUT_RD: and then", "%s", receive(fd, 0));
    fact("SHUT_RD: blocking", "%s", text(recv(fd, room, 1, 0), room));
    fact("SHUT_RD: the peer sends", "%s", r(peer_send(fd, "after")));
    nap(20);
    fact("SHUT_RD: read after that", "%s", receive(fd, 0));
    fact("SHUT_RD: and after that", "%s", receive(fd, 0));
    fact("SHUT_RD: send", "%s", transmit(fd));
    fact("SHUT_RD: the peer reads", "%s", peer_read(fd, 64));
    say("SHUT_RD, used", fd);
    close(fd);
}

static void both_sides(void)
{
    int fd = moved();
    peer_send(fd, "unread");
    send(fd, "last", 4, 0);
    fact("SHUT_RDWR", "%s", r(shutdown(fd, SHUT_RDWR)));
    say("SHUT_RDWR", fd);
    fact("SHUT_RDWR: read", "%s", receive(fd, 0));
    fact("SHUT_RDWR: and then", "%s", receive(fd, 0));
    fact("SHUT_RDWR: send", "%s", transmit(fd));
    fact("SHUT_RDWR: the peer reads", "%s", peer_read(fd, 64));
    fact("SHUT_RDWR: and then", "%s", peer_read(fd, 64));
    fact("SHUT_RDWR: the peer sends", "%s", r(peer_send(fd, "x")));
    nap(20);
    fact("SHUT_RDWR: the peer again", "%s", r(peer_send(fd, "x")));
    say("SHUT_RDWR, sent to", fd);
    close(fd);
}

static void wrong(void)
{
    int fd = moved(), idle = socket(AF_INET, SOCK_STREAM, 0);
    fact("bad how", "%s", r(shutdown(fd, 3)));
    fact("negative how", "%s", r(shutdown(fd, -1)));
    fact("not connected", "%s", r(shutdown(idle, SHUT_WR)));
    fact("no descriptor", "%s", r(shutdown(-1, SHUT_WR)));
    fact("no socket", "%s", r(shutdown(1, SHUT_WR)));
    transmit(fd);
    fact("still works", "%s", peer_wait_read(fd, 64));
    close(idle);
    close(fd);
}

static void much_before_the_end(void)
{
    int fd = moved();
    long sent = fill(fd);
    shutdown(fd, SHUT_WR);
    fact("all that was sent, then the end", "%d", peer_drain(fd) == sent);
    long given = peer_fill(fd);
    fact("the other way", "%d", given > 0);
    peer_shutdown(fd, SHUT_WR);
    fact("the other way: all, then the end", "%d", drain(fd) == given);
    close(fd);
}

void subject(void)
{
    write_side();
    read_side();
    both_sides();
    wrong();
    much_before_the_end();
}
