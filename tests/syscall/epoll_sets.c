/* One descriptor in several sets and twice in one, sets in sets, closed and reused numbers, more ready than room. */
#include "facts.h"

static const char *ask(int set, int milliseconds)
{
    struct epoll_event event = {0};
    int count = epoll_wait(set, &event, 1, milliseconds);
    return count == 1 ? bits(event.events) : r(count);
}

static void control(int set, int action, int fd, unsigned events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(set, action, fd, &event);
}

static void two_sets(void)
{
    char room[16];
    int fd = moved(), level = epoll_create1(0), edge = epoll_create1(0);
    control(level, EPOLL_CTL_ADD, fd, EPOLLIN);
    control(edge, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET);
    peer_send(fd, "x");
    fact("two sets: level", "%s", ask(level, SOON));
    fact("two sets: edge", "%s", ask(edge, SOON));
    fact("two sets: level again", "%s", ask(level, 0));
    fact("two sets: edge again", "%s", ask(edge, QUIET));
    read(fd, room, 1);
    fact("two sets: read", "%s", ask(level, QUIET));
    close(level);
    peer_send(fd, "y");
    fact("one set closed", "%s", ask(edge, SOON));
    close(edge);
    close(fd);
}

static void duplicates(void)
{
    struct epoll_event events[4];
    int fd = moved(), twin = dup(fd), set = epoll_create1(0);
    control(set, EPOLL_CTL_ADD, fd, EPOLLIN);
    control(set, EPOLL_CTL_ADD, twin, EPOLLIN | EPOLLET);
    peer_send(fd, "x");
    fact("twins", "%d", epoll_wait(set, events, 4, SOON));
    int count = epoll_wait(set, events, 4, 0);
    fact("twins: the level one stays", "%d %d", count, events[0].data.fd == fd);
    control(set, EPOLL_CTL_DEL, twin, 0);
    close(fd);
    /* The open file lives on in the twin, and so does the registration. */
    fact("number closed, twin open", "%s", ask(set, 0));
    struct epoll_event none;
    fact("delete by the closed number", "%s", r(epoll_ctl(set, EPOLL_CTL_DEL, fd, &none)));
    close(twin);
    fact("both closed", "%s", ask(set, QUIET));
    close(set);
}

static void reused_number(void)
{
    int set = epoll_create1(0), fd = moved();
    control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT);
    close(fd);
    peer_close(fd);
    fact("closed", "%s", ask(set, QUIET));
    int again = moved();
    fact("same number", "%d", again == fd);
    fact("number reused", "%s", ask(set, QUIET));
    control(set, EPOLL_CTL_ADD, again, EPOLLIN);
    peer_send(again, "x");
    fact("added under the number", "%s", ask(set, SOON));
    int pipes[2];
    pipe(pipes);
    dup2(pipes[0], again);
    fact("overlaid by a pipe", "%s", ask(set, QUIET));
    write(pipes[1], "x", 1);
    control(set, EPOLL_CTL_ADD, again, EPOLLIN);
    fact("the pipe added", "%s", ask(set, SOON));
    close(pipes[0]), close(pipes[1]), close(again), close(set);
}

static void nested(void)
{
    char room[16];
    int fd = moved(), inner = epoll_create1(0), outer = epoll_create1(0);
    control(inner, EPOLL_CTL_ADD, fd, EPOLLIN);
    control(outer, EPOLL_CTL_ADD, inner, EPOLLIN);
    fact("nested: empty", "%s", ask(outer, QUIET));
    fact("nested: poll of the set", "%s", bits(looked(inner, 0)));
    peer_send(fd, "x");
    fact("nested: outer", "%s", ask(outer, SOON));
    fact("nested: poll with data", "%s", bits(looked(inner, 0)));
    fact("nested: inner", "%s", ask(inner, 0));
    fact("nested: outer again", "%s", ask(outer, 0));
    read(fd, room, 1);
    fact("nested: read, inner", "%s", ask(inner, QUIET));
    fact("nested: read, outer", "%s", ask(outer, QUIET));
    peer_send(fd, "y");
    fact("nested: second arrival", "%s", ask(outer, SOON));
    read(fd, room, 1);
    fact("nested: read without asking inner", "%s", ask(outer, QUIET));
    fact("nested: polled without asking inner", "%s", bits(looked(inner, 0)));
    control(outer, EPOLL_CTL_MOD, inner, EPOLLIN | EPOLLET);
    peer_send(fd, "z");
    fact("nested edge", "%s", ask(outer, SOON));
    fact("nested edge again", "%s", ask(outer, QUIET));
    struct epoll_event event = {.events = EPOLLIN};
    fact("a cycle", "%s", r(epoll_ctl(inner, EPOLL_CTL_ADD, outer, &event)));
    close(inner), close(outer), close(fd);
}

#define MANY 12

static void more_than_room(void)
{
    struct epoll_event events[MANY * 2];
    int fds[MANY], seen[1024] = {0}, set = epoll_create1(0), twice = 0, missing = 0;
    for (int at = 0; at < MANY; at++) {
        fds[at] = moved();
        control(set, EPOLL_CTL_ADD, fds[at], EPOLLIN);
        peer_send(fds[at], "x");
    }
    fact("all", "%d", epoll_wait(set, events, MANY * 2, SOON));
    for (int turn = 0; turn < MANY / 4; turn++) {
        int count = epoll_wait(set, events, 4, SOON);
        for (int at = 0; at < count; at++)
            twice += seen[events[at].data.fd]++ > 0;
    }
    for (int at = 0; at < MANY; at++)
        missing += seen[fds[at]] == 0;
    fact("four at a time", "%d twice, %d missing", twice, missing);
    for (int at = 0; at < MANY; at++)
        control(set, EPOLL_CTL_MOD, fds[at], EPOLLIN | EPOLLET);
    int total = 0, rounds = 0;
    for (int count; (count = epoll_wait(set, events, 5, QUIET)) > 0; rounds++)
        total += count;
    fact("edges, five at a time", "%d in %d", total, rounds);
    for (int at = 0; at < MANY; at++)
        close(fds[at]);
    fact("all closed", "%s", ask(set, QUIET));
    close(set);
}

static void closed_set(void)
{
    int fd = moved(), set = epoll_create1(0), twin = dup(set);
    control(set, EPOLL_CTL_ADD, fd, EPOLLIN);
    close(set);
    peer_send(fd, "x");
    fact("a set's twin", "%s", ask(twin, SOON));
    fact("the closed number", "%s", ask(set, 0));
    int third = fcntl(twin, F_DUPFD_CLOEXEC, 100);
    fact("a third", "%s", ask(third, 0));
    close(twin), close(third);
    fact("the connection", "%s", bits(looked(fd, 0)));
    close(fd);
}

void subject(void)
{
    two_sets();
    duplicates();
    reused_number();
    nested();
    more_than_room();
    closed_set();
}
