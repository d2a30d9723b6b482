/* Connections of other kinds, both ends in this process: IPv6, fast open, deferred accept, several listeners of a port. */
#include "facts.h"
#include <netinet/tcp.h>

static char room[64];

static int listens_at(int family, struct sockaddr_in6 *name, socklen_t *size, int level, int option, int value)
{
    int fd = socket(family, SOCK_STREAM, 0);
    if (option)
        setsockopt(fd, level, option, &value, sizeof value);
    memset(name, 0, sizeof *name);
    name->sin6_family = family;
    if (family == AF_INET6)
        name->sin6_addr = in6addr_loopback;
    else
        ((struct sockaddr_in *)name)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *size = family == AF_INET6 ? sizeof *name : sizeof(struct sockaddr_in);
    if (bind(fd, (void *)name, *size) < 0 || listen(fd, 8) < 0)
        return -1;
    getsockname(fd, (void *)name, size);
    return fd;
}

/* Both ends are this process's. */
static void converse(const char *what, int here, int there)
{
    int right = 0;
    for (int round = 0; round < 20; round++) {
        send(here, "request", 7, 0);
        right += recv(there, room, sizeof room, 0) == 7;
        send(there, "reply", 5, 0);
        right += recv(here, room, sizeof room, 0) == 5;
    }
    char name[80];
    snprintf(name, sizeof name, "%s: messages", what);
    fact(name, "%d", right);
    shutdown(here, SHUT_WR);
    snprintf(name, sizeof name, "%s: end", what);
    fact(name, "%s", text(recv(there, room, sizeof room, 0), room));
    close(here), close(there);
}

static void plain(const char *what, int family)
{
    struct sockaddr_in6 name;
    socklen_t size;
    int listens = listens_at(family, &name, &size, 0, 0, 0), fd = socket(family, SOCK_STREAM, 0);
    if (listens < 0) {
        fact(what, "not here");
        return;
    }
    fact(what, "%s", r(connect(fd, (void *)&name, size)));
    converse(what, fd, accept(listens, NULL, NULL));
    close(listens);
}

static void fast_open(void)
{
    struct sockaddr_in6 name;
    socklen_t size;
    int on = 1, listens = listens_at(AF_INET, &name, &size, IPPROTO_TCP, TCP_FASTOPEN, 5);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    fact("MSG_FASTOPEN", "%s", r(sendto(fd, "early", 5, MSG_FASTOPEN, (void *)&name, size)));
    int there = accept(listens, NULL, NULL);
    fact("MSG_FASTOPEN arrives", "%s", text(recv(there, room, sizeof room, 0), room));
    converse("MSG_FASTOPEN", fd, there);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    fact("TCP_FASTOPEN_CONNECT", "%s", r(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on)));
    fact("TCP_FASTOPEN_CONNECT: connect", "%s", r(connect(fd, (void *)&name, size)));
    fact("TCP_FASTOPEN_CONNECT: send", "%s", r(send(fd, "early", 5, 0)));
    there = accept(listens, NULL, NULL);
    fact("TCP_FASTOPEN_CONNECT arrives", "%s", text(recv(there, room, sizeof room, 0), room));
    converse("TCP_FASTOPEN_CONNECT", fd, there);
    close(listens);
}

static void deferred(void)
{
    struct sockaddr_in6 name;
    socklen_t size;
    int listens = listens_at(AF_INET, &name, &size, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    fact("TCP_DEFER_ACCEPT: connect", "%s", r(connect(fd, (void *)&name, size)));
    fact("TCP_DEFER_ACCEPT: nobody yet", "%s", bits(looked(listens, QUIET)));
    send(fd, "now", 3, 0);
    fact("TCP_DEFER_ACCEPT: somebody", "%s", bits(looked(listens, SOON)));
    int there = accept(listens, NULL, NULL);
    fact("TCP_DEFER_ACCEPT: the bytes", "%s", text(recv(there, room, sizeof room, 0), room));
    converse("TCP_DEFER_ACCEPT", fd, there);
    close(listens);
}

static void shared_port(void)
{
    struct sockaddr_in6 name;
    socklen_t size;
    int on = 1, first = listens_at(AF_INET, &name, &size, SOL_SOCKET, SO_REUSEPORT, 1);
    int second = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(second, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    fact("SO_REUSEPORT", "%s", r(bind(second, (void *)&name, size)));
    listen(second, 8);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    connect(fd, (void *)&name, size);
    nonblocking(first, true), nonblocking(second, true);
    nap(10);
    int there = accept(first, NULL, NULL);
    if (there < 0)
        there = accept(second, NULL, NULL);
    converse("SO_REUSEPORT", fd, there);
    close(first), close(second);
}

static void others(void)
{
    int pair[2], udp = socket(AF_INET, SOCK_DGRAM, 0);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    converse("a Unix pair", pair[0], pair[1]);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    bind(udp, (void *)&name, size);
    getsockname(udp, (void *)&name, &size);
    connect(udp, (void *)&name, size);
    send(udp, "datagram", 8, 0);
    fact("UDP", "%s", text(recv(udp, room, sizeof room, 0), room));
    fact("UDP: a part", "%s", r(send(udp, "datagram", 8, 0)));
    fact("UDP: TRUNC", "%s", r(recv(udp, room, 3, MSG_TRUNC)));
    close(udp);
}

void subject(void)
{
    plain("IPv4", AF_INET);
    plain("IPv6", AF_INET6);
    fast_open();
    deferred();
    shared_port();
    others();
    int fd = moved();
    fact("the peer", "%s", bits(looked(fd, 0)));
}
