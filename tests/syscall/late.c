/* What only the kernel's socket can do, asked for when the connection has moved, while its peer sleeps on it, and while it is
 * in use here: by other threads, in a set, with both ends in this process. */
#include "facts.h"
#include <linux/filter.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <sys/un.h>

#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

static char room[64];

static const char *receive(int fd)
{
    return text(recv(fd, room, sizeof room, 0), room);
}

static const char *named(const char *when, const char *what)
{
    static char whole[96];
    snprintf(whole, sizeof whole, "%s: %s", when, what);
    return whole;
}

static long set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value);
}

/* ---- what is asked for */

static long timestamps(int fd) { return set(fd, SOL_SOCKET, SO_TIMESTAMP, 1); }
static long timestamping(int fd) { return set(fd, SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_SOFTWARE); }
static long zero_copy(int fd) { return set(fd, SOL_SOCKET, SO_ZEROCOPY, 1); }
static long sizes(int fd) { return set(fd, IPPROTO_TCP, TCP_INQ, 1); }
static long tls(int fd) { return setsockopt(fd, IPPROTO_TCP, TCP_ULP, "none such", 4) < 0 ? errno == ENOENT || errno == EPERM : 1; }
static long signals(int fd) { return fcntl(fd, F_SETFL, O_ASYNC | (fcntl(fd, F_GETFL) & O_NONBLOCK)); }

static long filter(int fd)
{
    struct sock_filter all = {BPF_RET | BPF_K, 0, 0, ~0u};
    struct sock_fprog program = {1, &all};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

static long mapped(int fd)
{
    char request[64] = "";
    socklen_t size = 24;
    getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, request, &size);
    return errno != EOPNOTSUPP;
}

static const struct wish {
    const char *name;
    long (*ask)(int fd);
} WISHES[] = {
    {"SO_TIMESTAMP", timestamps}, {"SO_TIMESTAMPING", timestamping}, {"SO_ZEROCOPY", zero_copy}, {"TCP_INQ", sizes},
    {"TCP_ULP", tls}, {"O_ASYNC", signals}, {"SO_ATTACH_FILTER", filter}, {"TCP_ZEROCOPY_RECEIVE", mapped},
};
enum { WISHED = sizeof WISHES / sizeof *WISHES };

static void works(const char *when, int fd)
{
    peer_send(fd, "hello");
    fact(named(when, "read"), "%s", receive(fd));
    fact(named(when, "sent"), "%s", r(send(fd, "there", 5, MSG_NOSIGNAL)));
    fact(named(when, "the peer reads"), "%s", peer_wait_read(fd, 64));
}

static void each(void)
{
    signal(SIGIO, SIG_IGN);
    for (int at = 0; at < WISHED; at++) {
        int fd = moved();
        peer_send(fd, "unread");
        peer_sleeps(fd, at % 3);
        fact(WISHES[at].name, "%s", r(WISHES[at].ask(fd)));
        fact(named(WISHES[at].name, "what was unread"), "%s", receive(fd));
        send(fd, "wake up", 7, 0);
        fact(named(WISHES[at].name, "the peer wakes"), "%s", peer_wait_read(fd, 64));
        works(WISHES[at].name, fd);
        close(fd);
        fact(named(WISHES[at].name, "end"), "%s", peer_wait_read(fd, 64));
    }
}

/* Stamps are there, once they are asked for. */
static void stamped(void)
{
    int fd = moved();
    peer_sleeps(fd, IN_EPOLL);
    timestamps(fd);
    send(fd, "wake up", 7, 0);
    peer_wait_read(fd, 64);
    /* The kernel begins to stamp a little later. */
    nap(100);
    peer_send(fd, "stamped");
    char control[256];
    struct iovec part = {room, sizeof room};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    long got = recvmsg(fd, &message, 0);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    fact("stamped", "%s %d", text(got, room), header && header->cmsg_type == SCM_TIMESTAMP);
    close(fd);
}

/* A peer that has closed need not be asked, nor one that has changed back itself: even if something of it is unread. */
static void closed(void)
{
    int left = moved();
    peer_send(left, "last");
    peer_close(left);
    fact("closed, unread: asked", "%s", r(timestamps(left)));
    fact("closed, unread: signals", "%s", r(signals(left)));
    fact("closed, unread: read", "%s", receive(left));
    fact("closed, unread: end", "%s", receive(left));
    close(left);
    int fd = moved();
    peer_send(fd, "last");
    peer_close(fd);
    fact("closed: read", "%s", receive(fd));
    fact("closed: asked", "%s", r(timestamps(fd)));
    fact("closed: end", "%s", receive(fd));
    close(fd);
    fd = moved();
    peer_shutdown(fd, SHUT_WR);
    fact("shut: end", "%s", receive(fd));
    peer_sleeps(fd, IN_RECV);
    fact("shut: asked", "%s", r(timestamps(fd)));
    send(fd, "there", 5, 0);
    fact("shut: the peer reads", "%s", peer_wait_read(fd, 64));
    close(fd);
}

/* ---- other threads sleep on it */

static int shared;

static void *reads(void *bytes)
{
    static char into[64];
    return (void *)text(recv(shared, into, (size_t)(intptr_t)bytes, bytes > (void *)1 ? MSG_WAITALL : 0), into);
}

static void *polls(void *unused)
{
    (void)unused;
    return (void *)bits(looked(shared, SOON));
}

static void *sends(void *unused)
{
    (void)unused;
    static char much[3 << 20];
    pattern(much, 0, sizeof much);
    return (void *)r(send(shared, much, sizeof much, 0));
}

static void threads(void)
{
    shared = moved();
    pthread_t thread = start(reads, (void *)1);
    nap(QUIET);
    peer_sleeps(shared, IN_RECV);
    fact("a thread in recv", "%s", r(timestamps(shared)));
    send(shared, "wake up", 7, 0);
    void *answer;
    peer_send(shared, "x");
    pthread_join(thread, &answer);
    fact("a thread in recv: it", "%s", (char *)answer);
    close(shared);

    shared = moved();
    thread = start(reads, (void *)6);
    nap(QUIET);
    peer_send(shared, "abc");
    nap(QUIET);
    peer_sleeps(shared, IN_POLL);
    fact("a thread in the middle", "%s", r(sizes(shared)));
    send(shared, "wake up", 7, 0);
    peer_send(shared, "def");
    pthread_join(thread, &answer);
    fact("a thread in the middle: it", "%s", (char *)answer);
    close(shared);

    shared = moved();
    char byte;
    struct pollfd nothing = {shared, 0, 0};
    thread = start(polls, NULL);
    poll(&nothing, 0, QUIET);
    pthread_join(thread, &answer);
    fact("writable", "%s", (char *)answer);
    peer_sleeps(shared, IN_EPOLL);
    fact("without threads", "%s", r(zero_copy(shared)));
    send(shared, "wake up", 7, 0);
    peer_send(shared, "y");
    fact("without threads: read", "%s", r(read(shared, &byte, 1)));
    close(shared);

    shared = moved();
    thread = start(sends, NULL);
    nap(100);
    later(QUIET);
    peer_take(shared, 3 << 20);
    fact("a thread in send", "%s", r(filter(shared)));
    pthread_join(thread, &answer);
    peer_done();
    fact("a thread in send: it", "%s", (char *)answer);
    works("a thread in send", shared);
    close(shared);
}

/* ---- in sets */

static void sets(uint32_t how, const char *when)
{
    int fd = moved(), set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | how};
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    fact(named(when, "at first"), "%s", r(epoll_wait(set, &event, 1, SOON)));
    fact(named(when, "events"), "%s", bits(event.events));
    peer_sleeps(fd, IN_EPOLL);
    timestamps(fd);
    send(fd, "wake up", 7, 0);
    peer_wait_read(fd, 64);
    for (int turn = 0; turn < 3; turn++) {
        later(20), peer_send(fd, "news");
        do
            event.events = 0;
        while (epoll_wait(set, &event, 1, SOON) == 1 && !(event.events & EPOLLIN));
        fact(named(when, "news"), "%s", bits(event.events));
        fact(named(when, "read"), "%s", receive(fd));
    }
    later(20), peer_close(fd);
    do
        event.events = 0;
    while (epoll_wait(set, &event, 1, SOON) == 1 && !(event.events & EPOLLRDHUP));
    fact(named(when, "the end"), "%s", bits(event.events));
    close(set), close(fd);
}

/* ---- both ends in this process */

static int meeting;

static void both(int *ends)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    if (!meeting) {
        meeting = socket(AF_INET, SOCK_STREAM, 0);
        bind(meeting, (void *)&here, sizeof here);
        listen(meeting, 64);
    }
    getsockname(meeting, (void *)&here, &size);
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    connect(ends[0], (void *)&here, sizeof here);
    ends[1] = accept(meeting, NULL, NULL);
    for (int turn = 0; turn < 16; turn++) {
        send(ends[turn % 2], "to and fro", 10, 0);
        recv(ends[1 - turn % 2], room, 10, MSG_WAITALL);
    }
}

static void goes_on(const char *when, const int *ends)
{
    for (int from = 0; from < 2; from++) {
        send(ends[from], "goes on", 7, MSG_NOSIGNAL);
        fact(named(when, from ? "back" : "there"), "%s", receive(ends[1 - from]));
    }
}

static void in_one_thread(void)
{
    for (int at = 0; at < 2 * WISHED; at++) {
        int ends[2];
        char name[64];
        both(ends);
        snprintf(name, sizeof name, "alone, %s by end %d", WISHES[at / 2].name, at % 2);
        send(ends[0], "unread", 6, 0), send(ends[1], "there, too", 10, 0);
        long long begun = now_ms();
        fact(name, "%s %d", r(WISHES[at / 2].ask(ends[at % 2])), now_ms() - begun < 500);
        fact(named(name, "unread"), "%s %s", receive(ends[1]), receive(ends[0]));
        goes_on(name, ends);
        close(ends[0]);
        fact(named(name, "end"), "%s", receive(ends[1]));
        close(ends[1]);
    }
}

static void *asks(void *end)
{
    static const char *const words[] = {"0", "an error"};
    return (void *)words[timestamps((int)(intptr_t)end) != 0];
}

static void both_at_once(void)
{
    int wrong = 0, late = 0;
    for (int turn = 0; turn < 60; turn++) {
        int ends[2];
        void *answer;
        both(ends);
        send(ends[0], "unread", 6, 0);
        long long begun = now_ms();
        pthread_t thread = start(asks, (void *)(intptr_t)ends[0]);
        wrong += timestamps(ends[1]) != 0;
        pthread_join(thread, &answer);
        wrong += strcmp(answer, "0") != 0;
        late += now_ms() - begun > 500;
        wrong += recv(ends[1], room, sizeof room, 0) != 6;
        send(ends[1], "goes on", 7, 0);
        wrong += recv(ends[0], room, sizeof room, 0) != 7;
        close(ends[0]), close(ends[1]);
    }
    fact("both at once", "%d %d", wrong, late);
}

/* One set has both ends; a process that looks at nothing else. */
static void in_one_set(void)
{
    int ends[2], set = epoll_create1(0);
    both(ends);
    for (int at = 0; at < 2; at++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = ends[at]};
        epoll_ctl(set, EPOLL_CTL_ADD, ends[at], &event);
    }
    struct epoll_event event;
    fact("one set: nothing", "%s", r(epoll_wait(set, &event, 1, QUIET)));
    fact("one set: asked", "%s", r(timestamps(ends[0])));
    for (int turn = 0; turn < 4; turn++) {
        send(ends[turn % 2], "news", 4, 0);
        int count = epoll_wait(set, &event, 1, SOON);
        fact("one set: news", "%d %s %d", count, bits(event.events), event.data.fd == ends[1 - turn % 2]);
        fact("one set: read", "%s", receive(ends[1 - turn % 2]));
    }
    close(set), close(ends[0]), close(ends[1]);
}

void subject(void)
{
    each();
    stamped();
    closed();
    threads();
    sets(0, "level");
    sets(EPOLLET, "edge");
    in_one_thread();
    both_at_once();
    in_one_set();
}
