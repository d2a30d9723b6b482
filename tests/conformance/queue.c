/* What waits to be sent: no TCP socket, a full one, SO_SNDBUF, close. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { million = 1 << 20 };

static const char *bulk(void)
{
    static char bytes[million];
    for (size_t i = 0; i < million; i++)
        bytes[i] = (char)('a' + i % 23);
    return bytes;
}

/* Reads everything, and says how much came and whether the first million bytes are the right ones. */
static const char *flood(int tcp_fd)
{
    size_t most = 4 * million;
    char *buffer = malloc(most);
    size_t got = swallow(tcp_fd, buffer, most);
    const char *answer = text("%zu intact %d", got, got >= million && !memcmp(buffer, bulk(), million));
    if (got > million)
        answer = text("%s then %s", answer, quoted(buffer + million, got - million));
    free(buffer);
    return answer;
}

static struct scene narrow(int type)
{
    struct scene s = {.k = kcm(type), .tcp = tcp_pair_with(8192, 8192)};
    if (attach(s.k, s.tcp.near, parser_be32()))
        die("attach");
    return s;
}

static void unattached(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        int k = kcm(types[i]), copy = clone_of(k);
        struct tcp tcp = tcp_pair();
        fact(text("%s sends", type), "%s %s %s", result(send(k, "a", 1, MSG_EOR)), result(send(copy, "b", 1, MSG_EOR)),
             result(send(k, "c", 1, MSG_EOR)));
        fact(text("%s poll", type), "%s", polled(k));
        fact(text("%s recv", type), "%s", receive(k, 8, 0));
        attach(copy, tcp.near, parser_be32());
        fact(text("%s after attach", type), "%s", stream(tcp.peer));
    }
    int k = kcm(SOCK_DGRAM);
    struct tcp tcp = tcp_pair();
    send(k, "lost", 4, 0);
    int copy = clone_of(k);
    close(k);
    attach(copy, tcp.near, parser_be32());
    fact("closed before attach", "%s", stream(tcp.peer));
}

static void unattached_limit(void)
{
    int k = kcm(SOCK_DGRAM);
    struct tcp tcp = tcp_pair();
    fact("a million", "%s", result(send(k, bulk(), million, MSG_DONTWAIT)));
    fact("one more", "%s poll %s", result(send(k, "x", 1, MSG_DONTWAIT)), polled(k));
    fact("nothing more", "%s", result(send(k, "", 0, MSG_DONTWAIT)));
    int copy = clone_of(k);
    fact("by a clone", "%s", result(send(copy, "clone", 5, MSG_DONTWAIT)));
    attach(k, tcp.near, parser_be32());
    fact("after attach", "%s", flood(tcp.peer));
    int small = kcm(SOCK_DGRAM), taken = 0;
    set_option(small, SOL_SOCKET, SO_SNDBUF, 4096);
    while (taken < 2000 && send(small, bulk(), 1000, MSG_DONTWAIT) == 1000)
        taken++;
    fact("SO_SNDBUF 4096, messages of 1000", "%d", taken);
    taken = 0;
    int open = kcm(SOCK_DGRAM);
    set_option(open, SOL_SOCKET, SO_SNDBUF, 4096);
    while (taken < 50 && send(open, bulk(), 1000, MSG_DONTWAIT | MSG_MORE) == 1000)
        taken++;
    fact("SO_SNDBUF 4096, parts of 1000", "%d", taken);
    fact("the last part", "%s", result(send(open, bulk(), 1000, MSG_DONTWAIT)));
    fact("another message", "%s", result(send(open, bulk(), 1000, MSG_DONTWAIT)));
}

static void stalled(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = narrow(types[i]);
        int set = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
        fact(text("%s a million", type), "%s", result(send(s.k, bulk(), million, MSG_DONTWAIT | MSG_EOR)));
        fact(text("%s poll", type), "%s", polled(s.k));
        fact(text("%s one more", type), "%s", result(send(s.k, "x", 1, MSG_DONTWAIT | MSG_EOR)));
        fact(text("%s a part more", type), "%s", result(send(s.k, "x", 1, MSG_DONTWAIT | MSG_MORE)));
        fact(text("%s nothing more", type), "%s", result(send(s.k, "", 0, MSG_DONTWAIT | MSG_EOR)));
        limit_time(s.k, SO_SNDTIMEO, 60);
        fcntl(s.k, F_SETFL, O_RDWR);
        fact(text("%s with SO_SNDTIMEO", type), "%s", result(send(s.k, "x", 1, MSG_EOR)));
        fcntl(s.k, F_SETFL, O_RDWR | O_NONBLOCK);
        epoll_ctl(set, EPOLL_CTL_ADD, s.k, &event);
        settle();
        epoll_wait(set, &event, 1, quiet);
        fact(text("%s edge before", type), "%d", epoll_wait(set, &event, 1, quiet));
        fact(text("%s peer", type), "%s", flood(s.tcp.peer));
        fact(text("%s edge after", type), "%d", epoll_wait(set, &event, 1, quiet));
        fact(text("%s then", type), "%s", result(send(s.k, "end", 3, MSG_DONTWAIT | MSG_EOR)));
        fact(text("%s then, peer", type), "%s", stream(s.tcp.peer));
    }
}

static void stalled_clones(void)
{
    struct scene s = narrow(SOCK_DGRAM);
    int copy = clone_of(s.k), third = clone_of(s.k);
    send(s.k, bulk(), million, MSG_DONTWAIT);
    fact("clones send", "%s %s %s", result(send(copy, "B1", 2, 0)), result(send(third, "C1", 2, 0)),
         result(send(copy, "B2", 2, 0)));
    fact("peer", "%s", flood(s.tcp.peer));
    /* With a second TCP socket nobody waits for the stalled one. */
    struct scene t = narrow(SOCK_DGRAM);
    struct tcp free_one = tcp_pair();
    send(t.k, bulk(), million, MSG_DONTWAIT);
    attach(t.k, free_one.near, parser_be32());
    copy = clone_of(t.k);
    fact("beside a stalled one", "%s %s", result(send(copy, "x", 1, 0)), result(send(copy, "y", 1, 0)));
    fact("the free peer", "%s", stream(free_one.peer));
    fact("by the stalled sender", "%s", result(send(t.k, "z", 1, MSG_DONTWAIT)));
    fact("the free peer still", "%s", stream(free_one.peer));
    fact("the stalled peer", "%s", flood(t.tcp.peer));
}

static void waits_for_room(void)
{
    struct scene s = narrow(SOCK_DGRAM);
    send(s.k, bulk(), million, MSG_DONTWAIT);
    fcntl(s.k, F_SETFL, O_RDWR);
    pid_t writer = child();
    if (writer == 0)
        _exit(send(s.k, "woken", 5, 0) == 5 ? 0 : 1);
    settle();
    fact("peer", "%s", flood(s.tcp.peer));
    fact("writer", "%d", child_ended(writer, 3000));
}

/* The message that a closed socket was in the middle of is cut off, and its TCP socket is not written to again. */
static void closed_in_the_middle(void)
{
    struct scene s = narrow(SOCK_DGRAM);
    int copy = clone_of(s.k);
    send(s.k, bulk(), million, MSG_DONTWAIT);
    send(copy, "waits", 5, 0);
    close(s.k);
    settle();
    fact("tcp", "%s SO_ERROR %s", polled(s.tcp.near), socket_error(s.tcp.near));
    char *buffer = malloc(million);
    size_t got = swallow(s.tcp.peer, buffer, million);
    fact("peer got a part", "%d intact %d", got > 0 && got < million, !memcmp(buffer, bulk(), got));
    fact("the clone sends", "%s peer %s", result(send(copy, "x", 1, MSG_DONTWAIT)), stream(s.tcp.peer));
    struct tcp other = tcp_pair();
    attach(copy, other.near, parser_be32());
    fact("another TCP socket", "%s", stream(other.peer));
    send_message(s.tcp.peer, 'r', 3);
    fact("the first still receives", "%s", drain(copy));
    fact("the first unattaches", "%s", result(unattach(copy, s.tcp.near)));
    fact("the first, attached again", "%s", result(attach(copy, s.tcp.near, parser_be32())));
    unattach(copy, other.near);
    send(copy, "again", 5, 0);
    fact("the first, peer", "%s", stream(s.tcp.peer));
    free(buffer);
}

static void unattached_in_the_middle(void)
{
    struct scene s = narrow(SOCK_DGRAM);
    send(s.k, bulk(), million, MSG_DONTWAIT);
    settle();
    fact("unattach", "%s", result(unattach(s.k, s.tcp.near)));
    fact("tcp", "%s SO_ERROR %s", polled(s.tcp.near), socket_error(s.tcp.near));
    struct tcp other = tcp_pair();
    attach(s.k, other.near, parser_be32());
    fact("sent whole on another", "%s", flood(other.peer));
    fact("then", "%s", result(send(s.k, "x", 1, MSG_DONTWAIT)));
    fact("the other, peer", "%s", stream(other.peer));
}

static void no_partial_sends(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        fact(text("%s first", type), "%s", result(send(s.k, bulk(), million, MSG_DONTWAIT | MSG_EOR)));
        fact(text("%s poll", type), "%s", polled(s.k));
        fact(text("%s peer", type), "%s", flood(s.tcp.peer));
        int parts = 0;
        while (parts < 40 && send(s.k, bulk(), 100000, MSG_DONTWAIT | MSG_MORE) == 100000)
            parts++;
        fact(text("%s parts of one message", type), "%d", parts);
        fact(text("%s nothing left before its end", type), "%s", stream(s.tcp.peer));
    }
}

static const struct test_case cases[] = {{"unattached", unattached},
                                         {"limit", unattached_limit},
                                         {"stalled", stalled},
                                         {"clones", stalled_clones},
                                         {"blocked", waits_for_room},
                                         {"close", closed_in_the_middle},
                                         {"unattach", unattached_in_the_middle},
                                         {"whole", no_partial_sends},
                                         {0}};
const struct group group_queue = {"queue", cases};
