/* Timers, pipes, signalfds and eventfds beside a busy connection, and sets inherited over fork. */
#include "facts.h"
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static int set;

static void control(int action, int fd, unsigned events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(set, action, fd, &event);
}

/* Answers the connection's messages until `other` is ready, at most so long; whether it came. */
static bool comes_beside(int busy, int other)
{
    char room[64];
    for (long long end = now_ms() + SOON; now_ms() < end;) {
        struct epoll_event events[8];
        int count = epoll_wait(set, events, 8, SOON);
        for (int at = 0; at < count; at++) {
            if (events[at].data.fd == other)
                return true;
            long got = recv(busy, room, sizeof room, MSG_DONTWAIT);
            if (got > 0)
                send(busy, room, got, 0);
        }
    }
    return false;
}

/* One place only: the busy connection must not keep it. */
static bool comes_in_one_place(int other)
{
    for (long long end = now_ms() + SOON; now_ms() < end;) {
        struct epoll_event event;
        if (epoll_wait(set, &event, 1, SOON) == 1 && event.data.fd == other)
            return true;
    }
    return false;
}

static void beside_a_busy_ring(void)
{
    uint64_t one = 1;
    int fd = moved(), pipes[2], events = eventfd(0, 0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    pipe(pipes);
    sigset_t usr1;
    sigemptyset(&usr1), sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    int signals = signalfd(-1, &usr1, 0);
    control(EPOLL_CTL_ADD, fd, EPOLLIN);
    control(EPOLL_CTL_ADD, pipes[0], EPOLLIN);
    control(EPOLL_CTL_ADD, events, EPOLLIN);
    control(EPOLL_CTL_ADD, timer, EPOLLIN);
    control(EPOLL_CTL_ADD, signals, EPOLLIN);
    peer_send(fd, "unread: always ready");
    struct itimerspec soon = {.it_value.tv_nsec = 20000000};
    timerfd_settime(timer, 0, &soon, NULL);
    fact("timer", "%d", comes_in_one_place(timer));
    control(EPOLL_CTL_DEL, timer, 0);
    write(pipes[1], "x", 1);
    fact("pipe", "%d", comes_in_one_place(pipes[0]));
    control(EPOLL_CTL_DEL, pipes[0], 0);
    write(events, &one, sizeof one);
    fact("eventfd", "%d", comes_in_one_place(events));
    control(EPOLL_CTL_DEL, events, 0);
    raise(SIGUSR1);
    fact("signalfd", "%d", comes_in_one_place(signals));
    control(EPOLL_CTL_DEL, signals, 0);
    char room[64];
    read(fd, room, sizeof room);
    control(EPOLL_CTL_ADD, timer, EPOLLIN | EPOLLET);
    timerfd_settime(timer, 0, &soon, NULL);
    later(1);
    peer_echo(fd, 1 << 30);
    send(fd, "ball", 4, 0);
    fact("timer beside a dialogue", "%d", comes_beside(fd, timer));
    shutdown(fd, SHUT_WR);
    peer_done();
    close(pipes[0]), close(pipes[1]), close(events), close(timer), close(signals), close(fd);
}

/* The other way round: a pipe that is always ready, and the connection. */
static void beside_a_busy_pipe(void)
{
    int fd = moved(), pipes[2];
    pipe(pipes);
    control(EPOLL_CTL_ADD, pipes[0], EPOLLIN);
    control(EPOLL_CTL_ADD, fd, EPOLLIN);
    write(pipes[1], "x", 1);
    later(20);
    peer_send(fd, "hello");
    fact("connection beside a ready pipe", "%d", comes_in_one_place(fd));
    peer_done();
    int seen[2] = {0};
    for (int turn = 0; turn < 200; turn++) {
        struct epoll_event event;
        epoll_wait(set, &event, 1, 0);
        seen[event.data.fd == fd]++;
    }
    fact("both have turns", "%d %d", seen[0] >= 2, seen[1] >= 2);
    close(pipes[0]), close(pipes[1]), close(fd);
}

static void inherited(void)
{
    struct epoll_event event = {0};
    int fd = moved(), pipes[2];
    char room[64];
    pipe(pipes);
    control(EPOLL_CTL_ADD, fd, EPOLLIN);
    if (fork() == 0) {
        int count = epoll_wait(set, &event, 1, SOON);
        int length = snprintf(room, sizeof room, "%d %s ", count, bits(event.events));
        length += sprintf(room + length, "%s", text(recv(fd, room + 32, 8, MSG_DONTWAIT), room + 32));
        write(pipes[1], room, length);
        _exit(0);
    }
    nap(50);
    peer_send(fd, "child");
    long got = read(pipes[0], room, sizeof room);
    fact("the child's set", "%.*s", (int)got, room);
    wait(NULL);
    fact("read by the child", "%d", epoll_wait(set, &event, 1, QUIET));
    peer_send(fd, "parent");
    int count = epoll_wait(set, &event, 1, SOON);
    fact("the parent's turn", "%d %s", count, bits(event.events));
    read(fd, room, sizeof room);
    if (fork() == 0) {
        close(fd);
        _exit(0);
    }
    wait(NULL);
    peer_send(fd, "again");
    fact("closed by a child only", "%d", epoll_wait(set, &event, 1, SOON));
    close(fd);
    fact("closed by all", "%d", epoll_wait(set, &event, 1, QUIET));
    close(pipes[0]), close(pipes[1]);
}

void subject(void)
{
    set = epoll_create1(0);
    beside_a_busy_ring();
    beside_a_busy_pipe();
    inherited();
}
