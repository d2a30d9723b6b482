/* Readiness: poll, select, epoll, and how many of several waiters a message wakes. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <unistd.h>

static int set_with(int fd, uint32_t asked)
{
    int set = epoll_create1(0);
    struct epoll_event event = {.events = asked};
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event))
        die("epoll_ctl");
    return set;
}

static const char *waited(int set)
{
    struct epoll_event event;
    int count = epoll_wait(set, &event, 1, quiet);
    return count > 0 ? events(event.events) : result(count);
}

static void levels(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        int set = set_with(s.k, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI);
        fact(text("%s idle", type), "poll %s epoll %s", polled(s.k), waited(set));
        send_message(s.tcp.peer, 'a', 4);
        settle();
        fact(text("%s a message", type), "poll %s epoll %s tcp %s", polled(s.k), waited(set), polled(s.tcp.near));
        fact(text("%s all bits", type), "%s", polled_for(s.k, (short)0xffff & ~POLLNVAL, 0));
        receive(s.k, 3, MSG_PEEK);
        fact(text("%s peeked", type), "%s", polled(s.k));
        receive(s.k, 64, 0);
        fact(text("%s taken", type), "%s", polled(s.k));
        send_bytes(s.tcp.peer, "\0\0\0\4x", 5);
        settle();
        fact(text("%s half a message", type), "kcm %s tcp %s", polled(s.k), polled(s.tcp.near));
        send_bytes(s.tcp.peer, "xxx", 3);
        settle();
        fact(text("%s the rest", type), "kcm %s tcp %s", polled(s.k), polled(s.tcp.near));
        recv_disable(s.k, 1);
        fact(text("%s disabled", type), "%s", polled(s.k));
        recv_disable(s.k, 0);
        fact(text("%s enabled", type), "%s", polled(s.k));
    }
    fact("unattached", "%s", polled(kcm(SOCK_DGRAM)));
}

static void by_select(void)
{
    struct scene s = scene(SOCK_DGRAM);
    for (int n = 0; n < 2; n++) {
        fd_set in, out, other;
        FD_ZERO(&in);
        FD_ZERO(&out);
        FD_ZERO(&other);
        FD_SET(s.k, &in);
        FD_SET(s.k, &out);
        FD_SET(s.k, &other);
        struct timeval time = {0};
        int count = select(s.k + 1, &in, &out, &other, &time);
        fact(n ? "a message" : "idle", "%d in %d out %d except %d", count, FD_ISSET(s.k, &in) != 0,
             FD_ISSET(s.k, &out) != 0, FD_ISSET(s.k, &other) != 0);
        send_message(s.tcp.peer, 'a', 1);
        settle();
    }
}

static void edges(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        int set = set_with(s.k, EPOLLIN | EPOLLET);
        fact(text("%s idle", type), "%s", waited(set));
        send_message(s.tcp.peer, 'a', 4);
        fact(text("%s first message", type), "%s, again %s", waited(set), waited(set));
        send_message(s.tcp.peer, 'b', 4);
        fact(text("%s second, nothing read", type), "%s, again %s", waited(set), waited(set));
        receive(s.k, 64, 0);
        fact(text("%s one read", type), "%s", waited(set));
        receive(s.k, 64, 0);
        send_bytes(s.tcp.peer, "\0\0\0\4cc", 6);
        fact(text("%s half a message", type), "%s", waited(set));
        send_bytes(s.tcp.peer, "cc", 2);
        fact(text("%s the rest", type), "%s", waited(set));
        receive(s.k, 64, 0);
        char two[16];
        send_bytes(s.tcp.peer, two, put_message(two, 'd', 4) + put_message(two + 8, 'e', 4));
        fact(text("%s two in one segment", type), "%s, again %s", waited(set), waited(set));
        int late = set_with(s.k, EPOLLIN | EPOLLET);
        fact(text("%s added when ready", type), "%s, again %s", waited(late), waited(late));
    }
}

static void edges_of_room(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        int set = set_with(s.k, EPOLLIN | EPOLLOUT | EPOLLET);
        fact(text("%s added", type), "%s, again %s", waited(set), waited(set));
        send(s.k, "x", 1, MSG_EOR);
        fact(text("%s after a send", type), "%s, again %s", waited(set), waited(set));
        send(s.k, "x", 1, MSG_EOR | MSG_BATCH);
        fact(text("%s after a batched send", type), "%s", waited(set));
        send(s.k, "x", 1, MSG_MORE);
        fact(text("%s after a part", type), "%s", waited(set));
        send_message(s.tcp.peer, 'a', 4);
        fact(text("%s a message", type), "%s", waited(set));
    }
}

static void one_shot(void)
{
    struct scene s = scene(SOCK_DGRAM);
    int set = set_with(s.k, EPOLLIN | EPOLLONESHOT);
    send_message(s.tcp.peer, 'a', 4);
    fact("first", "%s", waited(set));
    send_message(s.tcp.peer, 'b', 4);
    fact("second", "%s", waited(set));
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT};
    epoll_ctl(set, EPOLL_CTL_MOD, s.k, &event);
    fact("armed again", "%s, then %s", waited(set), waited(set));
    drain(s.k);
    epoll_ctl(set, EPOLL_CTL_MOD, s.k, &event);
    fact("armed when empty", "%s", waited(set));
    send_message(s.tcp.peer, 'c', 4);
    fact("then a message", "%s", waited(set));
    epoll_ctl(set, EPOLL_CTL_DEL, s.k, NULL);
    int outer = epoll_create1(0);
    event.events = EPOLLIN;
    epoll_ctl(set, EPOLL_CTL_ADD, s.k, &event);
    epoll_ctl(outer, EPOLL_CTL_ADD, set, &event);
    fact("nested", "%s", waited(outer));
    drain(s.k);
    fact("nested, drained", "%s", waited(outer));
    close(s.k);
    fact("closed while in a set", "%s", waited(set));
}

static void sockets_of_one_mux(void)
{
    struct scene s = scene(SOCK_DGRAM);
    int copy = clone_of(s.k), set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 0}, got[4];
    epoll_ctl(set, EPOLL_CTL_ADD, s.k, &event);
    event.data.u32 = 1;
    epoll_ctl(set, EPOLL_CTL_ADD, copy, &event);
    send_message(s.tcp.peer, 'a', 1);
    settle();
    fact("one message", "%d ready", epoll_wait(set, got, 4, quiet));
    send_message(s.tcp.peer, 'b', 1);
    settle();
    fact("two messages", "%d ready", epoll_wait(set, got, 4, quiet));
}

static void tcp_while_attached(void)
{
    struct scene s = scene(SOCK_DGRAM);
    int set = set_with(s.tcp.near, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP);
    fact("attached", "poll %s edge %s", polled(s.tcp.near), waited(set));
    send_message(s.tcp.peer, 'a', 4);
    settle();
    fact("a message", "poll %s edge %s", polled(s.tcp.near), waited(set));
    send_bytes(s.tcp.peer, "\0\0\0\100x", 5);
    settle();
    fact("half a message", "poll %s edge %s", polled(s.tcp.near), waited(set));
    send_bytes(s.tcp.peer, "xxxx", 4);
    settle();
    fact("more of it", "poll %s edge %s", polled(s.tcp.near), waited(set));
    shutdown(s.tcp.peer, SHUT_WR);
    settle();
    fact("FIN", "poll %s edge %s again %s", polled(s.tcp.near), waited(set), waited(set));
    int late = set_with(s.tcp.near, 0);
    fact("asked for nothing", "%s", waited(late));
    struct scene bad = scene_with(SOCK_DGRAM, parser_constant(-5));
    set = set_with(bad.tcp.near, EPOLLIN | EPOLLET);
    waited(set);
    send_bytes(bad.tcp.peer, "bad", 3);
    fact("parser's error", "edge %s again %s", waited(set), waited(set));
    socket_error(bad.tcp.near);
    send_bytes(bad.tcp.peer, "more", 4);
    fact("more after it", "edge %s poll %s", waited(set), polled(bad.tcp.near));
    struct scene again = scene(SOCK_DGRAM);
    set = set_with(again.tcp.near, EPOLLIN | EPOLLONESHOT);
    send_message(again.tcp.peer, 'a', 4);
    fact("one-shot, a message", "%s", waited(set));
    unattach(again.k, again.tcp.near);
    fact("one-shot, unattached", "%s", waited(set));
    send_message(again.tcp.peer, 'b', 4);
    fact("one-shot, a message then", "%s, again %s", waited(set), waited(set));
    struct scene room = {.k = kcm(SOCK_DGRAM), .tcp = tcp_pair_with(8192, 8192)};
    static char bulk[300000];
    attach(room.k, room.tcp.near, parser_be32());
    set = set_with(room.tcp.near, EPOLLOUT | EPOLLET);
    fact("added", "%s", waited(set));
    send(room.k, bulk, sizeof bulk, MSG_DONTWAIT);
    fact("full", "poll %s edge %s", polled(room.tcp.near), waited(set));
    swallow(room.tcp.peer, bulk, sizeof bulk);
    fact("room again", "poll %s edge %s", polled(room.tcp.near), waited(set));
    struct scene waiting = scene(SOCK_DGRAM);
    pid_t pid = child();
    if (pid == 0)
        _exit(!strcmp(polled_for(waiting.tcp.near, POLLIN, 3000), "IN|ERR") ? 0 : 1);
    settle();
    close(waiting.tcp.peer);
    fact("a poll that slept sees the FIN", "%d", child_ended(pid, 3000));
}

/* Children wait; so many wake when messages come. */
enum { waiters = 4 };
enum how { by_recv, by_poll, by_level, by_edge, by_exclusive, by_shared_set };

static int wait_once(int k, int set, enum how how)
{
    char buffer[64];
    struct epoll_event event;
    switch (how) {
    case by_recv:
        fcntl(k, F_SETFL, O_RDWR);
        return recv(k, buffer, sizeof buffer, 0) > 0;
    case by_poll:
        return strcmp(polled_for(k, POLLIN, 1000), "0") != 0;
    default:
        return epoll_wait(set, &event, 1, 1000) > 0;
    }
}

static const char *woken(int sockets, int messages, enum how how)
{
    struct scene s = scene(SOCK_DGRAM);
    int ends[2], all[waiters], shared = set_with(s.k, EPOLLIN | EPOLLET), count = 0;
    pid_t pids[waiters];
    if (pipe(ends))
        die("pipe");
    for (int i = 0; i < waiters; i++)
        all[i] = i % sockets ? clone_of(s.k) : s.k;
    for (int i = 0; i < waiters; i++) {
        pids[i] = child();
        if (pids[i])
            continue;
        uint32_t mode = how == by_edge ? EPOLLET : how == by_exclusive ? EPOLLEXCLUSIVE : 0;
        int set = how == by_shared_set ? shared : set_with(all[i], EPOLLIN | mode);
        if (wait_once(all[i], set, how) && write(ends[1], "x", 1) != 1)
            _exit(1);
        pause();
    }
    settle();
    for (int n = 0; n < messages; n++) {
        send_message(s.tcp.peer, (char)('a' + n), 4);
        settle();
    }
    settle();
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    for (char byte; read(ends[0], &byte, 1) == 1;)
        count++;
    for (int i = 0; i < waiters; i++)
        child_ended(pids[i], 0);
    return text("%d", count);
}

static void herd(void)
{
    fact("recv, one socket, 1 message", "%s of 4", woken(1, 1, by_recv));
    fact("recv, one socket, 2 messages", "%s of 4", woken(1, 2, by_recv));
    fact("poll, one socket, 1 message", "%s of 4", woken(1, 1, by_poll));
    fact("own epoll sets, one socket, 1 message", "%s of 4", woken(1, 1, by_level));
    fact("own edge sets, one socket, 1 message", "%s of 4", woken(1, 1, by_edge));
    fact("own exclusive sets, one socket, 1 message", "%s of 4", woken(1, 1, by_exclusive));
    fact("a shared edge set, one socket, 1 message", "%s of 4", woken(1, 1, by_shared_set));
    fact("recv, two sockets, 2 messages", "%s of 4", woken(2, 2, by_recv));
    fact("poll, four sockets, 1 message", "%s of 4", woken(4, 1, by_poll));
    fact("poll, four sockets, 4 messages", "%s of 4", woken(4, 4, by_poll));
}

static const struct test_case cases[] = {
    {"levels", levels},          {"select", by_select}, {"edges", edges},
    {"room", edges_of_room},     {"oneshot", one_shot}, {"mux", sockets_of_one_mux},
    {"tcp", tcp_while_attached}, {"herd", herd},        {0}};
const struct group group_ready = {"ready", cases};
