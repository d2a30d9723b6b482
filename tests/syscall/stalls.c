/* Both ends send more than a ring holds before they read: TCP's buffers take it. */
#include "facts.h"

#define MUCH (1 << 20)

static char out[MUCH], in[MUCH];

/* Reads so many bytes; how many of them, from the first on, are the pattern's. */
static size_t taken(int fd, size_t count)
{
    long got = recv(fd, in, count, MSG_WAITALL);
    return got < 0 ? 0 : matching(in, 0, got);
}

static void echoes(void)
{
    int fd = moved();
    later(1);
    peer_echo(fd, MUCH);
    fact("echo: all sent", "%s", r(send(fd, out, MUCH, 0)));
    fact("echo: all back", "%zu", taken(fd, MUCH));
    peer_done();
    exchange(fd, 3);
    send(fd, "hello", 5, 0);
    fact("echo: once more", "%s", peer_wait_read(fd, 16));
    peer_send(fd, "there");
    fact("echo: and back", "%s", text(recv(fd, in, 16, 0), in));
    fact("echo: nothing more", "%s", text(recv(fd, in, 16, MSG_DONTWAIT), in));
    close(fd);
}

/* The two connections are each full in one direction, and no end can know that the other one waits for it. */
static void crosses(void)
{
    int there = moved(), back = moved();
    later(1);
    peer_send_pattern(back, MUCH);
    fact("crossed: all sent", "%s", r(send(there, out, MUCH, 0)));
    peer_done();
    fact("crossed: all there", "%ld", peer_take(there, MUCH));
    fact("crossed: all back", "%zu", taken(back, MUCH));
    shutdown(there, SHUT_WR);
    fact("crossed: end", "%ld", peer_drain(there));
    peer_send(there, "still");
    fact("crossed: the other way", "%s", text(recv(there, in, 16, 0), in));
    close(there), close(back);
}

/* Both ends of a connection of this process's own. */
static void own(int ends[2])
{
    int listens = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    bind(listens, (void *)&name, sizeof name);
    listen(listens, 1);
    getsockname(listens, (void *)&name, &size);
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    connect(ends[0], (void *)&name, size);
    ends[1] = accept(listens, NULL, NULL);
    for (int round = 0; round < 20; round++) {
        send(ends[0], "request", 7, 0), recv(ends[1], in, 16, 0);
        send(ends[1], "reply", 5, 0), recv(ends[0], in, 16, 0);
    }
    close(listens);
}

static void alone(void)
{
    int ends[2];
    own(ends);
    fact("alone: all sent", "%s", r(send(ends[0], out, MUCH, 0)));
    int count = 0;
    ioctl(ends[1], FIONREAD, &count);
    fact("alone: there is something", "%d", count > 0);
    fact("alone: peeked", "%zu", matching(in, 0, recv(ends[1], in, 100000, MSG_PEEK | MSG_WAITALL)));
    fact("alone: all received", "%zu", taken(ends[1], MUCH));
    fact("alone: nothing more", "%s", text(recv(ends[1], in, 16, MSG_DONTWAIT), in));
    fact("alone: the other way", "%s", r(send(ends[1], out, MUCH, 0)));
    fact("alone: received", "%zu", taken(ends[0], MUCH));
    send(ends[0], "hello", 5, 0);
    fact("alone: a word", "%s", text(recv(ends[1], in, 16, 0), in));
    close(ends[0]);
    fact("alone: end", "%s", text(recv(ends[1], in, 16, 0), in));
    close(ends[1]);
}

static void must_pipe(int ends[2])
{
    if (pipe(ends) != 0)
        _exit(3);
}

/* Sends all, waiting for space by `wait`. */
static size_t sent_with(int fd, bool (*wait)(int))
{
    size_t sent = 0;
    nonblocking(fd, true);
    while (sent < MUCH) {
        long some = send(fd, out + sent, MUCH - sent, 0);
        if (some > 0)
            sent += some;
        else if (errno != EAGAIN || !wait(fd))
            break;
    }
    nonblocking(fd, false);
    return sent;
}

static bool by_poll(int fd)
{
    struct pollfd entry = {.fd = fd, .events = POLLOUT};
    return poll(&entry, 1, SOON) == 1;
}

static bool by_select(int fd)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    struct timeval limit = {.tv_sec = SOON / 1000};
    return select(fd + 1, NULL, &set, NULL, &limit) == 1;
}

static int set;

static bool by_epoll(int fd)
{
    struct epoll_event event = {.data.fd = fd};
    return epoll_wait(set, &event, 1, SOON) == 1;
}

static void waits(void)
{
    int ends[2];
    own(ends);
    fact("poll: all sent", "%zu", sent_with(ends[0], by_poll));
    fact("poll: all received", "%zu", taken(ends[1], MUCH));
    close(ends[0]), close(ends[1]);
    own(ends);
    fact("select: all sent", "%zu", sent_with(ends[0], by_select));
    fact("select: all received", "%zu", taken(ends[1], MUCH));
    close(ends[0]), close(ends[1]);
    for (int edge = 0; edge < 2; edge++) {
        own(ends);
        set = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLOUT | (edge ? EPOLLET : 0)};
        epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event);
        fact(edge ? "edge: all sent" : "level: all sent", "%zu", sent_with(ends[0], by_epoll));
        event.events = EPOLLIN;
        epoll_ctl(set, EPOLL_CTL_ADD, ends[1], &event);
        epoll_ctl(set, EPOLL_CTL_DEL, ends[0], &event);
        size_t got = 0;
        while (got < MUCH && epoll_wait(set, &event, 1, SOON) == 1) {
            long some = recv(ends[1], in + got, 50000 < MUCH - got ? 50000 : MUCH - got, 0);
            got += some > 0 ? some : 0;
        }
        fact(edge ? "edge: all received" : "level: all received", "%zu", matching(in, 0, got));
        fact(edge ? "edge: quiet" : "level: quiet", "%d", epoll_wait(set, &event, 1, QUIET));
        close(set), close(ends[0]), close(ends[1]);
    }
}

static bool by_glances(int fd)
{
    struct epoll_event event = {.data.fd = fd};
    for (long long end = now_ms() + SOON; now_ms() < end; nap(1))
        if (epoll_wait(set, &event, 1, 0) == 1)
            return true;
    return false;
}

/* What is read of ring and TCP together: by one call, from a low-water mark on, into a pipe. */
static void together(void)
{
    int ends[2];
    own(ends);
    set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLOUT};
    epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event);
    fact("glances: all sent", "%zu", sent_with(ends[0], by_glances));
    shutdown(ends[0], SHUT_WR);
    fact("shut: all received", "%zu", taken(ends[1], MUCH));
    fact("shut: end", "%s", text(recv(ends[1], in, 16, 0), in));
    close(set), close(ends[0]), close(ends[1]);

    own(ends);
    int low = 100000;
    setsockopt(ends[1], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low);
    send(ends[0], out, MUCH, 0);
    size_t got = recv(ends[1], in, 200000, MSG_WAITALL);
    fact("low: polled", "%s", bits(looked(ends[1], SOON) & POLLIN));
    got += recv(ends[1], in + got, MUCH - got, 0);
    fact("low: enough", "%d", got >= 300000);
    got += recv(ends[1], in + got, MUCH - got, MSG_WAITALL);
    fact("low: all received", "%zu", matching(in, 0, got));
    close(ends[0]), close(ends[1]);

    own(ends);
    int tube[2];
    must_pipe(tube);
    send(ends[0], out, MUCH, 0);
    shutdown(ends[0], SHUT_WR);
    long some;
    for (got = 0; (some = splice(ends[1], NULL, tube[1], NULL, 30000, 0)) > 0;)
        for (long part; some > 0; some -= part, got += part)
            part = read(tube[0], in + got, some);
    fact("splice: all received", "%zu", matching(in, 0, got));
    fact("splice: end", "%s", r(some));
    close(tube[0]), close(tube[1]), close(ends[0]), close(ends[1]);
}

static void *splices(void *tube)
{
    int *fds = tube;
    return (void *)splice(fds[2], NULL, fds[1], NULL, 30000, 0);
}

/* One thread splices before anything comes; the peer sends so little that the connection has not moved, and then much. */
static void splices_early(void)
{
    int fd = fresh(), tube[3];
    must_pipe(tube);
    tube[2] = fd;
    exchange(fd, 2);
    pthread_t thread = start(splices, tube);
    nap(30);
    for (int turn = 0; turn < 20; turn++) {
        send(fd, "x", 1, 0);
        peer_wait_read(fd, 16);
    }
    later(1);
    peer_send_pattern(fd, MUCH);
    void *result;
    pthread_join(thread, &result);
    size_t got = read(tube[0], in, sizeof in);
    got += recv(fd, in + got, MUCH - got, MSG_WAITALL);
    peer_done();
    fact("spliced early: some", "%d", (long)result > 0);
    fact("spliced early: all received", "%zu", matching(in, 0, got));
    close(tube[0]), close(tube[1]), close(fd);
}

/* The peer has given its direction up, and dies with bytes unread that came through the other one. */
static void dies(void)
{
    int fd = moved();
    later(1);
    peer_send_pattern(fd, MUCH);
    nap(1500);
    fact("death: all received", "%zu", taken(fd, MUCH));
    peer_done();
    send(fd, out, 1000, 0);
    peer_die();
    nap(50);
    unsigned seen = looked(fd, SOON);
    fact("death", "%s", bits(seen));
    fact("death: read", "%s", text(recv(fd, in, 16, 0), in));
    close(fd);
}

/* A peer that never reads goes. */
static void ends_unread(void)
{
    int ends[2];
    own(ends);
    send(ends[0], out, MUCH, 0);
    close(ends[1]);
    fact("unread: closed", "%s", text(recv(ends[0], in, 16, 0), in));
    fact("unread: events", "%s", bits(looked(ends[0], 0)));
    close(ends[0]);

    own(ends);
    send(ends[0], out, MUCH, 0);
    close(ends[0]);
    fact("unread: all", "%zu", taken(ends[1], MUCH));
    fact("unread: end", "%s", text(recv(ends[1], in, 16, 0), in));
    close(ends[1]);

    pid_t child;
    own(ends);
    send(ends[0], out, MUCH, 0);
    if ((child = fork()) == 0) {
        close(ends[0]);
        _exit(taken(ends[1], MUCH) == MUCH ? 7 : 8);
    }
    close(ends[1]);
    int status;
    waitpid(child, &status, 0);
    fact("unread: by a child", "%d", WEXITSTATUS(status));
    fact("unread: and its end", "%s", text(recv(ends[0], in, 16, 0), in));
    close(ends[0]);
}

void subject(void)
{
    pattern(out, 0, MUCH);
    echoes();
    crosses();
    alone();
    waits();
    together();
    splices_early();
    ends_unread();
    dies();
}
