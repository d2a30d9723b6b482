/* connect and accept: non-blocking, refused, repeated, undone; flags and inheritance of accepted sockets. */
#include "facts.h"

static struct sockaddr_in own_address(int fd)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    bind(fd, (void *)&name, sizeof name);
    getsockname(fd, (void *)&name, &size);
    return name;
}

static int tcp(int flags) { return socket(AF_INET, SOCK_STREAM | flags, 0); }

static const char *connects(int fd, const struct sockaddr_in *to)
{
    return r(connect(fd, (const void *)to, sizeof *to));
}

static void refused(void)
{
    int holder = tcp(0), fd = tcp(0);
    struct sockaddr_in to = own_address(holder);
    fact("unconnected", "%s", bits(looked(fd, 0)));
    char room[8];
    fact("unconnected: read", "%s", r(read(fd, room, 8)));
    fact("unconnected: send", "%s", r(send(fd, "x", 1, MSG_NOSIGNAL)));
    fact("refused", "%s", connects(fd, &to));
    fact("refused: events", "%s", bits(looked(fd, 0)));
    fact("refused: again", "%s", connects(fd, &to));
    fact("refused: read", "%s", r(read(fd, room, 8)));
    int quick = tcp(SOCK_NONBLOCK);
    const char *answer = connects(quick, &to);
    nap(20);
    fact("refused, non-blocking", "%s %s", answer, bits(looked(quick, 0)));
    fact("refused, non-blocking: error", "%s", error(pending(quick)));
    fact("refused, non-blocking: told", "%s", error(pending(quick)));
    listen(holder, 1);
    fact("the socket can be used again", "%s", connects(fd, &to));
    close(holder), close(fd), close(quick);
}

static void non_blocking(void)
{
    int holder = tcp(0), fd = tcp(SOCK_NONBLOCK), on = 1;
    struct sockaddr_in to = own_address(holder);
    listen(holder, 8);
    const char *answer = connects(fd, &to);
    fact("non-blocking", "%s", answer);
    fact("non-blocking: events", "%s", bits(looked(fd, SOON)));
    fact("non-blocking: error", "%s", error(pending(fd)));
    fact("connected: again", "%s", connects(fd, &to));
    fact("connected: and again", "%s", connects(fd, &to));
    ioctl(holder, FIONBIO, &on);
    int other = accept4(holder, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    fact("accept4", "%d %d", (fcntl(other, F_GETFL) & O_NONBLOCK) != 0, fcntl(other, F_GETFD));
    fact("accept, none there", "%s", r(accept(holder, NULL, NULL)));
    fact("accept4, bad flags", "%s", r(accept4(holder, NULL, NULL, 1)));
    fact("accept: the listener's events", "%s", bits(looked(holder, 0)));
    int early = tcp(0);
    connects(early, &to);
    send(early, "early", 5, 0);
    fact("a connection waits", "%s", bits(looked(holder, SOON)));
    struct sockaddr_in name, theirs;
    socklen_t size = sizeof name, length = sizeof theirs;
    int late = accept(holder, (void *)&name, &size);
    getsockname(early, (void *)&theirs, &length);
    fact("accept names the peer", "%u %d", size, name.sin_port == theirs.sin_port);
    fact("not inherited", "%d", (fcntl(late, F_GETFL) & O_NONBLOCK) != 0);
    char room[16];
    fact("sent before accept", "%s", text(recv(late, room, 16, MSG_DONTWAIT), room));
    int pending_one = tcp(0);
    connects(pending_one, &to);
    close(holder);
    nap(20);
    fact("listener closed: who waited", "%s", text(recv(pending_one, room, 16, MSG_DONTWAIT), room));
    send(late, "still", 5, 0);
    fact("listener closed: who was accepted", "%s", text(recv(early, room, 16, 0), room));
    close(fd), close(other), close(early), close(late), close(pending_one);
}

static void undone(void)
{
    int fd = moved();
    struct sockaddr_in nobody = {.sin_family = AF_UNSPEC}, name;
    socklen_t size = sizeof name;
    peer_sleeps(fd, IN_POLL);
    fact("connect to AF_UNSPEC", "%s", connects(fd, &nobody));
    fact("disconnected: getpeername", "%s", r(getpeername(fd, (void *)&name, &size)));
    fact("disconnected: send", "%s", r(send(fd, "x", 1, MSG_NOSIGNAL)));
    char room[8];
    fact("disconnected: read", "%s", r(recv(fd, room, 8, MSG_DONTWAIT)));
    fact("disconnected: events", "%s", bits(looked(fd, 0)));
    nap(20);
    fact("disconnected: the peer reads", "%s", peer_read(fd, 8));
    close(fd);
}

static void itself(void)
{
    int fd = tcp(0);
    struct sockaddr_in name = own_address(fd);
    char room[8];
    fact("to itself", "%s", connects(fd, &name));
    for (int turn = 0; turn < 10; turn++) {
        send(fd, "echo", 4, 0);
        recv(fd, room, 8, 0);
    }
    send(fd, "last", 4, 0);
    fact("to itself: read", "%s", text(recv(fd, room, 8, 0), room));
    close(fd);
}

static void wrong(void)
{
    int fd = tcp(0), other = tcp(0);
    struct sockaddr_in name = address();
    fact("short address", "%s", r(connect(fd, (void *)&name, 4)));
    name.sin_family = AF_INET6;
    fact("wrong family", "%s", connects(fd, &name));
    fact("accept without listen", "%s", r(accept(fd, NULL, NULL)));
    fact("connect no descriptor", "%s", r(connect(-1, (void *)&name, sizeof name)));
    struct sockaddr_in here = own_address(other);
    fact("bind to the same", "%s", r(bind(fd, (void *)&here, sizeof here)));
    fact("bind twice", "%s", r(bind(other, (void *)&here, sizeof here)));
    listen(other, 0);
    fact("connect a listener", "%s", connects(other, &here));
    fact("read a listener", "%s", r(read(other, &name, 8)));
    fact("send to a listener", "%s", r(send(other, "x", 1, MSG_NOSIGNAL)));
    shutdown(other, SHUT_RD);
    fact("listener shut down", "%s", r(accept(other, NULL, NULL)));
    close(fd), close(other);
}

void subject(void)
{
    refused();
    non_blocking();
    undone();
    itself();
    wrong();
}
