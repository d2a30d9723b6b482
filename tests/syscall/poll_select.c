/* poll and select: every bit in every state of a connection, bad arguments, thousands of descriptors. */
#include "facts.h"
#include <sys/resource.h>

static const char *selected(int fd)
{
    static char line[32];
    fd_set in, out, except;
    FD_ZERO(&in); FD_ZERO(&out); FD_ZERO(&except);
    FD_SET(fd, &in); FD_SET(fd, &out); FD_SET(fd, &except);
    struct timeval now = {0, 0};
    int count = select(fd + 1, &in, &out, &except, &now);
    snprintf(line, sizeof line, "%d: %d %d %d", count, FD_ISSET(fd, &in), FD_ISSET(fd, &out), FD_ISSET(fd, &except));
    return line;
}

static void state(const char *what, int fd)
{
    struct pollfd all = {fd, -1, 0}, nothing = {fd, 0, 0};
    int count = poll(&all, 1, 0);
    int silent = poll(&nothing, 1, 0);
    fact(what, "poll %d %s, asked for nothing %d %s, select %s", count, bits((unsigned short)all.revents), silent,
         bits((unsigned short)nothing.revents), selected(fd));
}

static void states(void)
{
    char room[16];
    int fd = moved();
    state("idle", fd);
    peer_send(fd, "x");
    state("data", fd);
    peer_shutdown(fd, SHUT_WR);
    state("data and end", fd);
    read(fd, room, 16);
    state("end", fd);
    shutdown(fd, SHUT_WR);
    nap(20);
    state("both shut", fd);
    close(fd);

    fd = moved();
    shutdown(fd, SHUT_RD);
    state("own SHUT_RD", fd);
    peer_send(fd, "x");
    nap(20);
    state("own SHUT_RD, data", fd);
    close(fd);

    fd = moved();
    shutdown(fd, SHUT_WR);
    state("own SHUT_WR", fd);
    peer_close(fd);
    nap(20);
    state("own SHUT_WR, closed", fd);
    close(fd);

    fd = moved();
    peer_close(fd);
    nap(20);
    state("closed", fd);
    send(fd, "x", 1, MSG_NOSIGNAL);
    nap(20);
    state("closed, sent to", fd);
    close(fd);

    fd = moved();
    peer_send(fd, "unread");
    peer_reset(fd);
    nap(20);
    state("reset", fd);
    fact("reset: error", "%s", error(pending(fd)));
    state("reset, told", fd);
    close(fd);

    fd = moved();
    send(fd, "unread", 6, 0);
    peer_close(fd);
    nap(20);
    state("closed with unread data", fd);
    close(fd);

    fd = moved();
    fill(fd);
    state("full", fd);
    peer_shutdown(fd, SHUT_WR);
    nap(20);
    state("full and end", fd);
    close(fd);
}

static void low_water(void)
{
    int fd = moved(), low = 5;
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low);
    peer_send(fd, "1234");
    fact("below the low-water mark", "%s", bits(looked(fd, QUIET)));
    peer_send(fd, "5");
    fact("at the low-water mark", "%s", bits(looked(fd, 0)));
    close(fd);
}

static void arguments(void)
{
    int fd = moved();
    struct pollfd entries[3] = {{-1, POLLIN, 77}, {fd, POLLOUT, 0}, {900, POLLIN, 0}};
    int count = poll(entries, 3, 0);
    fact("negative and bad descriptors", "%d %d %s %s", count, entries[0].revents, bits(entries[1].revents), bits(entries[2].revents));
    struct pollfd twice[2] = {{fd, POLLOUT, 0}, {fd, POLLIN, 0}};
    count = poll(twice, 2, 0);
    fact("one descriptor twice", "%d %s %s", count, bits(twice[0].revents), bits(twice[1].revents));
    fact("nothing to poll", "%s", r(poll(NULL, 0, 10)));
    fd_set in;
    int gone = dup(fd);
    close(gone);
    FD_ZERO(&in); FD_SET(gone, &in); FD_SET(fd, &in);
    struct timeval now = {0, 0};
    fact("select: bad descriptor", "%s", r(select(gone + 1, &in, NULL, NULL, &now)));
    fact("select: negative count", "%s", r(select(-1, NULL, NULL, NULL, &now)));
    FD_ZERO(&in); FD_SET(fd, &in);
    fact("select: beyond the count", "%s", r(select(fd, &in, NULL, NULL, &now)));
    struct rlimit limit, few;
    getrlimit(RLIMIT_NOFILE, &limit);
    few = limit;
    few.rlim_cur = 64;
    setrlimit(RLIMIT_NOFILE, &few);
    struct pollfd many[65];
    for (int at = 0; at < 65; at++)
        many[at] = (struct pollfd){fd, POLLIN, 0};
    fact("more than RLIMIT_NOFILE", "%s", r(poll(many, 65, 0)));
    setrlimit(RLIMIT_NOFILE, &limit);
    close(fd);
}

#define PIPES 1000
#define AT 1500

static void thousands(void)
{
    static struct pollfd entries[2 * PIPES];
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 4 * PIPES)
        limit.rlim_cur = limit.rlim_max, setrlimit(RLIMIT_NOFILE, &limit);
    int fd = moved(), high = 0, pipes[2];
    for (int at = 0; at < 2 * PIPES; at++)
        entries[at] = (struct pollfd){-1, POLLIN, 0};
    for (int at = 0; at < PIPES; at++) {
        pipe(pipes);
        entries[at].fd = pipes[0];
        high = pipes[1];
    }
    int twin = fcntl(fd, F_DUPFD, high + 1);
    entries[AT] = (struct pollfd){twin, POLLIN, 0};
    fact("thousands: quiet", "%d", poll(entries, 2 * PIPES, 10));
    later(30);
    peer_send(fd, "x");
    int count = poll(entries, 2 * PIPES, SOON);
    fact("thousands: the connection", "%d %s", count, bits(entries[AT].revents));
    write(high, "x", 1);
    count = poll(entries, 2 * PIPES, 0);
    fact("thousands: and a pipe", "%d %s %s", count, bits(entries[AT].revents), bits(entries[PIPES - 1].revents));
    /* A set of the program's own size. */
    size_t bytes = (twin / 64 + 1) * 8;
    unsigned long *in = calloc(1, bytes);
    in[twin / 64] |= 1UL << twin % 64;
    in[entries[0].fd / 64] |= 1UL << entries[0].fd % 64;
    struct timeval now = {0, 0};
    count = select(twin + 1, (fd_set *)in, NULL, NULL, &now);
    fact("select beyond FD_SETSIZE", "%d %d", count, (int)(in[twin / 64] >> twin % 64 & 1));
    close(twin);
    close(fd);
}

void subject(void)
{
    states();
    low_water();
    arguments();
    thousands();
}
