/* Descriptors with numbers as high as the process may have, and limits that change below them. */
#include "facts.h"
#include <sys/resource.h>

/* Most that the library's tables are made for. */
#define MOST 1000000

static char room[64];

static int highest(void)
{
    struct rlimit now;
    getrlimit(RLIMIT_NOFILE, &now);
    now.rlim_max = now.rlim_max < MOST ? MOST : now.rlim_max;
    now.rlim_cur = MOST;
    /* Only a privileged process may have more than it was given. */
    if (setrlimit(RLIMIT_NOFILE, &now) < 0) {
        getrlimit(RLIMIT_NOFILE, &now);
        now.rlim_cur = now.rlim_max < MOST ? now.rlim_max : MOST;
        setrlimit(RLIMIT_NOFILE, &now);
    }
    return now.rlim_cur - 1;
}

static void lower_to(int limit)
{
    struct rlimit now;
    getrlimit(RLIMIT_NOFILE, &now);
    now.rlim_cur = limit;
    setrlimit(RLIMIT_NOFILE, &now);
}

static long resident_kib(void)
{
    long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    fscanf(file, "%ld %ld", &total, &resident);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* select of one descriptor, whose number may be beyond an fd_set's. */
static const char *selected(int fd)
{
    size_t words = fd / 64 + 1;
    uint64_t *read = calloc(words, 8), *write = calloc(words, 8);
    read[fd / 64] = write[fd / 64] = 1ULL << fd % 64;
    struct timeval time = {SOON / 1000, 0};
    int count = select(fd + 1, (fd_set *)read, (fd_set *)write, NULL, &time);
    bool readable = read[fd / 64] != 0, writable = write[fd / 64] != 0;
    free(read), free(write);
    return count < 0 ? error(errno) : bits((readable ? POLLIN : 0) | (writable ? POLLOUT : 0));
}

static void used_at(const char *name, int peer, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    int set = epoll_create1(0);
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    fact(name, "quiet: %s, %s", bits(looked(fd, 0)), selected(fd));
    later(30);
    peer_send(peer, "hello");
    fact(name, "a read that waits: %s", text(recv(fd, room, sizeof room, 0), room));
    peer_done();
    later(30);
    peer_send(peer, "there");
    int count = epoll_wait(set, &event, 1, SOON);
    fact(name, "epoll: %d, %d", count, event.data.fd == fd);
    fact(name, "something: %s, %s", bits(looked(fd, SOON)), selected(fd));
    peer_done();
    fact(name, "read: %s", text(read(fd, room, sizeof room), room));
    write(fd, "answer", 6);
    fact(name, "the peer: %s", peer_wait_read(peer, 64));
    close(set);
}

static void duplicates(int top)
{
    long before = resident_kib();
    int fd = moved(), at[3];
    at[0] = dup2(fd, top);
    at[1] = fcntl(fd, F_DUPFD, top / 2);
    at[2] = dup3(fd, top / 4 * 3, O_CLOEXEC);
    fact("numbers", "%d %d %d", at[0] == top, at[1] == top / 2, at[2] == top / 4 * 3);
    for (int copy = 0; copy < 3; copy++)
        used_at("a copy", fd, at[copy]);
    close(fd);
    used_at("a copy alone", fd, top);
    /* As many chunks of a table as there are. */
    for (int number = 4096; number < top; number += 997)
        dup2(top, number);
    fact("many copies", "little memory: %d", resident_kib() - before < 60000);
    used_at("one of many", fd, 4096 + 997);
    fact("closed", "%s", r(close_range(4096, ~0U, 0)));
    nap(20);
    fact("closed: the peer", "%s", peer_read(fd, 8));
}

static void lowered(int top)
{
    int fd = moved();
    int high = dup2(fd, top);
    lower_to(256);
    used_at("beyond the limit", fd, high);
    fact("beyond the limit: dup", "%s", r(dup2(high, 300)));
    int later_one = moved();
    send(later_one, "later", 5, 0);
    fact("made under the limit", "%s", peer_wait_read(later_one, 64));
    used_at("under the limit", later_one, later_one);
    /* poll takes as many entries as the limit says, used or not. */
    struct pollfd entries[256];
    for (int entry = 0; entry < 256; entry++)
        entries[entry] = (struct pollfd){entry == 200 ? fd : -1, POLLIN, 0};
    peer_send(fd, "one of 256");
    entries[201] = (struct pollfd){fd, POLLOUT, 0};
    fact("as many entries", "%s", r(poll(entries, 256, SOON)));
    fact("as many entries: which", "%s %s", bits(entries[200].revents), bits(entries[201].revents));
    fact("as many entries: read", "%s", text(recv(fd, room, sizeof room, 0), room));
    entries[201].fd = -1;
    later(30);
    peer_send(fd, "later");
    fact("as many entries, and a sleep", "%s %s", r(poll(entries, 256, SOON)), bits(entries[200].revents));
    peer_done();
    close(fd), close(later_one);
    fact("beyond the limit: closed", "%s", r(close_range(256, ~0U, 0)));
    nap(20);
    fact("beyond the limit: the peer", "%s", peer_read(fd, 8));
}

/* Where a process may have more descriptors than the library's table has places for: the last that has one, and others. */
static void beyond_the_table(void)
{
    enum { PLACES = 1 << 20 };
    struct rlimit now, more = {PLACES + 16, PLACES + 16};
    getrlimit(RLIMIT_NOFILE, &now);
    more.rlim_max = now.rlim_max > more.rlim_max ? now.rlim_max : more.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &more) < 0)
        return;
    int last = moved(), fd = fresh();
    used_at("the last place", last, dup2(last, PLACES - 1));
    int beyond = dup2(fd, PLACES);
    exchange(fd, 12);
    used_at("beyond", fd, beyond);
    used_at("beyond, the lower number", fd, fd);
    close(fd);
    used_at("beyond alone", fd, beyond);
    /* A connection that has moved may be refused such a number: it is not lost then. */
    beyond = fcntl(last, F_DUPFD, PLACES + 1);
    used_at("beyond, after it moved", last, beyond < 0 ? last : beyond);
    beyond = dup2(last, PLACES + 2);
    used_at("beyond, after it moved", last, beyond < 0 ? last : beyond);
    used_at("the lower number", last, last);
    fact("none at a high number", "%s", r(close_range(4096, ~0U, 0)));
    used_at("at the lower number alone", last, last);
    close(last);
}

void subject(void)
{
    int top = highest();
    duplicates(top);
    beyond_the_table();
    lowered(top);
}
