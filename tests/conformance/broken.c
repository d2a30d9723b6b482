/* Sending when TCP connections end. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
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

/* Sends a letter, and says what became of it and whether a signal came. */
static const char *attempt(int k, char letter, int flags)
{
    pipe_signals = 0;
    const char *sent = result(send(k, &letter, 1, flags | MSG_EOR));
    return text("%s signal %d", sent, pipe_signals != 0);
}

static void peer_closed(void)
{
    count_signals();
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        close(s.tcp.peer);
        settle();
        fact(text("%s tcp", type), "%s kcm %s", polled(s.tcp.near), polled(s.k));
        fact(text("%s first send", type), "%s", attempt(s.k, 'a', 0));
        fact(text("%s second send", type), "%s", attempt(s.k, 'b', 0));
        fact(text("%s third send, nosignal", type), "%s", attempt(s.k, 'c', MSG_NOSIGNAL));
        fact(text("%s tcp after", type), "%s SO_ERROR %s", polled(s.tcp.near), socket_error(s.tcp.near));
        fact(text("%s kcm after", type), "%s SO_ERROR %s %s", polled(s.k), socket_error(s.k), receive(s.k, 8, 0));
        struct tcp other = tcp_pair();
        attach(s.k, other.near, parser_be32());
        fact(text("%s a new TCP socket", type), "%s", stream(other.peer));
        fact(text("%s unattach the dead one", type), "%s", result(unattach(s.k, s.tcp.near)));
    }
}

static void error_read_first(void)
{
    count_signals();
    struct scene s = scene(SOCK_DGRAM);
    close(s.tcp.peer);
    settle();
    fact("SO_ERROR", "%s tcp %s", socket_error(s.tcp.near), polled(s.tcp.near));
    fact("first send", "%s", attempt(s.k, 'a', 0));
    settle();
    fact("tcp after", "%s SO_ERROR %s", polled(s.tcp.near), socket_error(s.tcp.near));
    fact("second send", "%s", attempt(s.k, 'b', 0));
    fact("tcp then", "%s SO_ERROR %s", polled(s.tcp.near), socket_error(s.tcp.near));
    struct scene t = scene(SOCK_DGRAM);
    close(t.tcp.peer);
    settle();
    fact("nosignal", "%s", attempt(t.k, 'a', MSG_NOSIGNAL));
}

static void one_of_two(void)
{
    count_signals();
    struct scene s = scene(SOCK_DGRAM);
    struct tcp live = tcp_pair();
    attach(s.k, live.near, parser_be32());
    close(s.tcp.peer);
    settle();
    fact("first send", "%s live peer %s", attempt(s.k, 'a', MSG_NOSIGNAL), stream(live.peer));
    fact("second send", "%s live peer %s", attempt(s.k, 'b', MSG_NOSIGNAL), stream(live.peer));
    fact("third send", "%s live peer %s", attempt(s.k, 'c', MSG_NOSIGNAL), stream(live.peer));
    fact("dead", "%s SO_ERROR %s", polled(s.tcp.near), socket_error(s.tcp.near));
    fact("live", "%s", polled(live.near));
}

static void half_closed(void)
{
    count_signals();
    struct scene s = scene(SOCK_DGRAM);
    shutdown(s.tcp.peer, SHUT_WR);
    settle();
    fact("peer shut its sending", "tcp %s", polled(s.tcp.near));
    fact("send", "%s peer %s", attempt(s.k, 'a', MSG_NOSIGNAL), stream(s.tcp.peer));
    struct scene t = scene(SOCK_DGRAM);
    shutdown(t.tcp.peer, SHUT_WR);
    settle();
    fact("SO_ERROR read first", "%s", socket_error(t.tcp.near));
    fact("send then", "%s peer %s", attempt(t.k, 'a', MSG_NOSIGNAL), stream(t.tcp.peer));
    fact("send again", "%s peer %s tcp %s", attempt(t.k, 'b', MSG_NOSIGNAL), stream(t.tcp.peer), polled(t.tcp.near));
    struct scene u = scene(SOCK_DGRAM);
    shutdown(u.tcp.near, SHUT_WR);
    settle();
    fact("near shut its sending", "tcp %s SO_ERROR %s", polled(u.tcp.near), socket_error(u.tcp.near));
    fact("send after it", "%s peer %s tcp %s", attempt(u.k, 'a', MSG_NOSIGNAL), stream(u.tcp.peer), polled(u.tcp.near));
    send_message(u.tcp.peer, 'r', 2);
    fact("receives still", "%s", drain(u.k));
}

static void in_mid_message(void)
{
    count_signals();
    enum { big = 1 << 20 };
    char *bytes = malloc(big), *got = malloc(2 * big);
    memset(bytes, 'm', big);
    struct scene s = {.k = kcm(SOCK_DGRAM), .tcp = tcp_pair_with(8192, 8192)};
    struct tcp other = tcp_pair();
    attach(s.k, s.tcp.near, parser_be32());
    fact("send", "%s", result(send(s.k, bytes, big, MSG_DONTWAIT)));
    attach(s.k, other.near, parser_be32());
    fact("queued behind", "%s", result(send(s.k, "n", 1, MSG_DONTWAIT)));
    struct linger now = {.l_onoff = 1};
    setsockopt(s.tcp.peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(s.tcp.peer);
    settle();
    /* Whether it is sent again at once depends on what TCP had told KCM before the reset; unattach decides it. */
    fact("tcp", "%s SO_ERROR %s", polled(s.tcp.near), socket_error(s.tcp.near));
    fact("unattach the failed one", "%s", result(unattach(s.k, s.tcp.near)));
    size_t length = swallow(other.peer, got, 2 * big);
    fact("sent whole on the other then", "%d intact %d", length == big, !memcmp(got, bytes, big));
    fact("then", "%s peer %s", attempt(s.k, 'z', MSG_NOSIGNAL), stream(other.peer));
    /* With no other the message waits for the next one. */
    struct scene t = {.k = kcm(SOCK_DGRAM), .tcp = tcp_pair_with(8192, 8192)};
    attach(t.k, t.tcp.near, parser_be32());
    send(t.k, bytes, big, MSG_DONTWAIT);
    setsockopt(t.tcp.peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(t.tcp.peer);
    settle();
    fact("alone", "kcm %s SO_ERROR %s send %s", polled(t.k), socket_error(t.k),
         result(send(t.k, "x", 1, MSG_DONTWAIT)));
    struct tcp next = tcp_pair();
    attach(t.k, next.near, parser_be32());
    unattach(t.k, t.tcp.near);
    length = swallow(next.peer, got, 2 * big);
    fact("sent whole on the next then", "%d intact %d", length == big, !memcmp(got, bytes, big));
    /* Another message, when there is room for it, finds out too. */
    struct scene u = {.k = kcm(SOCK_DGRAM), .tcp = tcp_pair_with(8192, 8192)};
    struct tcp spare = tcp_pair();
    attach(u.k, u.tcp.near, parser_be32());
    fact("small enough for another", "%s", result(send(u.k, bytes, 150000, MSG_DONTWAIT)));
    attach(u.k, spare.near, parser_be32());
    setsockopt(u.tcp.peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(u.tcp.peer);
    settle();
    fact("another", "%s", result(send(u.k, "n", 1, MSG_DONTWAIT)));
    fact("a batch and a flush", "%s %s", result(send(u.k, "o", 1, MSG_BATCH)), result(send(u.k, "p", 1, MSG_DONTWAIT)));
    length = swallow(spare.peer, got, 2 * big);
    fact("all on the spare", "%zu intact %d", length, length > 150000 && !memcmp(got, bytes, 150000));
    free(bytes);
    free(got);
}

static void near_closed(void)
{
    /* Closing the descriptor of an attached TCP socket closes nothing. */
    struct scene s = scene(SOCK_DGRAM);
    close(s.tcp.near);
    settle();
    fact("peer", "%s", stream(s.tcp.peer));
    fact("send", "%s", result(send(s.k, "still", 5, 0)));
    fact("peer then", "%s", stream(s.tcp.peer));
    send_message(s.tcp.peer, 'r', 4);
    fact("receive", "%s", drain(s.k));
    fact("unattach by the old number", "%s", result(unattach(s.k, s.tcp.near)));
    close(s.k);
    settle();
    fact("peer after the last KCM socket closed", "%s", stream(s.tcp.peer));
    struct scene t = scene(SOCK_DGRAM);
    int copy = clone_of(t.k), again = dup(t.tcp.near);
    close(t.tcp.near);
    fact("unattach through a dup", "%s", result(unattach(copy, again)));
    close(again);
    fact("peer after it", "%s", stream(t.tcp.peer));
}

static const struct test_case cases[] = {{"peer_closed", peer_closed},
                                         {"error_read", error_read_first},
                                         {"one_of_two", one_of_two},
                                         {"half", half_closed},
                                         {"mid_message", in_mid_message},
                                         {"near_closed", near_closed},
                                         {0}};
const struct group group_broken = {"broken", cases};
