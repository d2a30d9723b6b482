/* Errors that KCM posts on the TCP socket: who is woken, what takes them off, how long they stay. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile sig_atomic_t pipe_signals;

static void count_signal(int number)
{
    (void)number;
    pipe_signals++;
}

static void count_signals(void)
{
    struct sigaction action = {.sa_handler = count_signal};
    sigaction(SIGPIPE, &action, NULL);
}

/* A scene whose parser refuses everything with EIO. */
static struct scene refusing(void)
{
    return scene_with(SOCK_DGRAM, parser_constant(-EIO));
}

/* Has the parser's error posted: no event of TCP's comes with it. */
static void refuse(struct scene *s)
{
    send_bytes(s->tcp.peer, "bad", 3);
    settle();
}

static int set_with(int fd, unsigned asked)
{
    struct epoll_event event = {.events = asked};
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, fd, &event))
        die("epoll");
    return set;
}

static const char *waited_for(int set, int wait)
{
    struct epoll_event event;
    return epoll_wait(set, &event, 1, wait) == 1 ? events(event.events) : "0";
}

static const char *waited(int set)
{
    return waited_for(set, quiet);
}

enum how { by_poll, by_poll_for_nothing, by_read_set, by_write_set, by_except_set, by_level, by_edge, by_set_of_sets };

struct sleeper {
    enum how how;
    int fd, set;
    const char *seen;
    volatile int done;
};

static const char *selected(int fd, enum how how)
{
    fd_set asked;
    FD_ZERO(&asked);
    FD_SET(fd, &asked);
    struct timeval limit = {.tv_sec = 1};
    fd_set *none = NULL, *sets[3] = {none, none, none};
    sets[how - by_read_set] = &asked;
    return result(select(fd + 1, sets[0], sets[1], sets[2], &limit));
}

static void *sleep_by(void *argument)
{
    struct sleeper *me = argument;
    switch (me->how) {
    case by_poll:
        me->seen = polled_for(me->fd, POLLIN, 1000);
        break;
    case by_poll_for_nothing:
        me->seen = polled_for(me->fd, 0, 1000);
        break;
    case by_read_set:
    case by_write_set:
    case by_except_set:
        me->seen = selected(me->fd, me->how);
        break;
    default:
        me->seen = waited_for(me->set, 1000);
    }
    me->done = 1;
    return NULL;
}

static void woken(void)
{
    static const char *const names[] = {"poll", "poll for nothing", "select to read", "select to write",
                                        "select for exceptions", "epoll", "edge", "epoll of an epoll"};
    for (enum how how = by_poll; how <= by_set_of_sets; how++) {
        struct scene s = refusing();
        struct sleeper one = {.how = how, .fd = s.tcp.near};
        if (how == by_write_set) /* Always ready while there is room. */
            continue;
        one.set = set_with(s.tcp.near, EPOLLIN | (how == by_edge ? EPOLLET : 0));
        if (how == by_set_of_sets)
            one.set = set_with(one.set, EPOLLIN);
        pthread_t thread;
        if (pthread_create(&thread, NULL, sleep_by, &one))
            die("pthread_create");
        settle();
        const char *before = one.done ? one.seen : "sleeps";
        refuse(&s);
        fact(names[how], "%s, then %s", before, one.done ? one.seen : "sleeps");
        pthread_join(thread, NULL);
    }
}

/* What was there before attach: duplicates of the descriptor, and registrations. */
static void from_before(void)
{
    struct scene s = {.k = kcm(SOCK_DGRAM), .tcp = tcp_pair()};
    int copy = dup(s.tcp.near), level = set_with(s.tcp.near, EPOLLIN | EPOLLRDHUP);
    int edge = set_with(copy, EPOLLIN | EPOLLET), once = set_with(s.tcp.near, EPOLLOUT | EPOLLONESHOT);
    int outer = set_with(level, EPOLLIN);
    fact("before", "level %s edge %s once %s outer %s", waited(level), waited(edge), waited(once), waited(outer));
    attach(s.k, s.tcp.near, parser_constant(-EIO));
    fact("attached", "level %s once %s outer %s", waited(level), waited(once), waited(outer));
    refuse(&s);
    fact("posted", "outer %s level %s again %s edge %s again %s once %s", waited(outer), waited(level), waited(level),
         waited(edge), waited(edge), waited(once));
    struct epoll_event armed = {.events = EPOLLOUT | EPOLLONESHOT};
    epoll_ctl(once, EPOLL_CTL_MOD, s.tcp.near, &armed);
    fact("armed again", "%s, again %s", waited(once), waited(once));
    fact("copy", "%s SO_ERROR %s", polled(copy), socket_error(copy));
    fact("told", "level %s edge %s near %s", waited(level), waited(edge), polled(s.tcp.near));
    fact("unattached", "%s", result(unattach(s.k, copy)));
    char buffer[8];
    fact("raw", "%s level %s", result(read(s.tcp.near, buffer, sizeof buffer)), waited(level));
    send_bytes(s.tcp.peer, "later", 5);
    settle();
    fact("later", "level %s edge %s again %s", waited(level), waited(edge), waited(edge));
}

/* The error is told by the first call that would tell the socket's own. */
static void calls(void)
{
    count_signals();
    char buffer[16];
    struct iovec part = {.iov_base = buffer, .iov_len = 3};
    struct scene s = refusing();
    refuse(&s);
    fact("recv, bytes first", "%s then %s SO_ERROR %s", result(recv(s.tcp.near, buffer, 16, 0)),
         result(recv(s.tcp.near, buffer, 16, 0)), socket_error(s.tcp.near));
    fact("recv then", "%s", result(recv(s.tcp.near, buffer, 16, 0)));
    s = refusing();
    refuse(&s);
    fact("recv of nothing", "%s %s", result(recv(s.tcp.near, buffer, 0, 0)), polled(s.tcp.near));
    fact("peek", "%s %s", result(recv(s.tcp.near, buffer, 16, MSG_PEEK)), polled(s.tcp.near));
    fact("write", "%s %s then %s", result(write(s.tcp.near, "abc", 3)), polled(s.tcp.near),
         result(write(s.tcp.near, "abc", 3)));
    s = refusing();
    refuse(&s);
    fact("writev", "%s then %s", result(writev(s.tcp.near, &part, 1)), result(writev(s.tcp.near, &part, 1)));
    fact("no signal", "%d", pipe_signals);
    s = refusing();
    refuse(&s);
    fact("send of nothing", "%s %s", result(send(s.tcp.near, buffer, 0, 0)), polled(s.tcp.near));
    s = scene(SOCK_DGRAM);
    shutdown(s.tcp.peer, SHUT_WR);
    settle();
    fact("EPIPE, send", "%s signal %d then %s peer %s", result(send(s.tcp.near, "abc", 3, 0)), pipe_signals,
         result(send(s.tcp.near, "abc", 3, 0)), stream(s.tcp.peer));
    s = scene(SOCK_DGRAM);
    shutdown(s.tcp.peer, SHUT_WR);
    settle();
    pipe_signals = 0;
    fact("EPIPE, without a signal", "%s signal %d", result(send(s.tcp.near, "abc", 3, MSG_NOSIGNAL)), pipe_signals);
    fact("KCM sends after that", "%s peer %s", result(send(s.k, "kcm", 3, 0)), stream(s.tcp.peer));
}

/* An error that nobody took off stays. */
static void stays(void)
{
    struct scene s = refusing();
    refuse(&s);
    unattach(s.k, s.tcp.near);
    fact("unattached", "%s edge %s", polled(s.tcp.near), waited(set_with(s.tcp.near, EPOLLIN | EPOLLET)));
    int set = set_with(s.tcp.near, EPOLLIN);
    attach(s.k, s.tcp.near, parser_be32());
    settle();
    fact("attached again", "%s", polled(s.tcp.near));
    fact("KCM sends", "%s peer %s", result(send(s.k, "kcm", 3, MSG_NOSIGNAL)), stream(s.tcp.peer));
    settle();
    fact("then", "%s SO_ERROR %s level %s", polled(s.tcp.near), socket_error(s.tcp.near), waited(set));
    s = refusing();
    refuse(&s);
    set = set_with(s.tcp.near, EPOLLIN);
    close(s.k);
    settle();
    fact("mux closed", "%s level %s SO_ERROR %s then %s", polled(s.tcp.near), waited(set), socket_error(s.tcp.near),
         polled(s.tcp.near));
    s = refusing();
    refuse(&s);
    pid_t pid = child();
    if (pid == 0)
        _exit(strcmp(socket_error(s.tcp.near), "EIO") != 0);
    fact("told in a child", "%d here %s", child_ended(pid, 3000), polled(s.tcp.near));
}

static const struct test_case cases[] = {
    {"woken", woken}, {"before", from_before}, {"calls", calls}, {"stays", stays}, {0}};
const struct group group_posted = {"posted", cases};
