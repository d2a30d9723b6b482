/* Which KCM socket gets a message, and what moves it. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void in_turn(void)
{
    struct scene s = scene(SOCK_DGRAM);
    int copy = clone_of(s.k);
    for (char letter = 'A'; letter < 'G'; letter++) {
        send_message(s.tcp.peer, letter, 1);
        settle();
    }
    fact("six, nobody reads", "%s | %s", drain(s.k), drain(copy));
    for (char letter = 'G'; letter < 'K'; letter++) {
        send_message(s.tcp.peer, letter, 1);
        settle();
    }
    fact("four more", "%s | %s", drain(s.k), drain(copy));
    char three[15];
    for (char letter = 'a'; letter < 'j'; letter += 3) {
        for (int i = 0; i < 3; i++)
            put_message(three + i * 5, (char)(letter + i), 1);
        send_bytes(s.tcp.peer, three, sizeof three);
        settle();
    }
    fact("three segments of three", "%s | %s", drain(s.k), drain(copy));
}

static void three_sockets(void)
{
    int k = kcm(SOCK_DGRAM), second = clone_of(k), third = clone_of(k), program = parser_be32();
    struct tcp tcp = tcp_pair();
    attach(second, tcp.near, program);
    for (char letter = 'A'; letter < 'H'; letter++) {
        send_message(tcp.peer, letter, 1);
        settle();
    }
    fact("seven", "%s | %s | %s", drain(k), drain(second), drain(third));
    close(second);
    for (char letter = 'H'; letter < 'K'; letter++) {
        send_message(tcp.peer, letter, 1);
        settle();
    }
    fact("second closed", "%s | %s", drain(k), drain(third));
    int fourth = clone_of(third);
    for (char letter = 'K'; letter < 'O'; letter++) {
        send_message(tcp.peer, letter, 1);
        settle();
    }
    fact("another clone", "%s | %s | %s", drain(k), drain(third), drain(fourth));
}

static void late_clone(void)
{
    struct scene s = scene(SOCK_DGRAM);
    send_message(s.tcp.peer, 'A', 1);
    send_message(s.tcp.peer, 'B', 1);
    settle();
    int copy = clone_of(s.k);
    fact("made after two came", "%s | %s", drain(s.k), drain(copy));
}

static void busy_and_idle(void)
{
    /* One socket has a sleeping reader, the other has not. */
    struct scene s = scene(SOCK_DGRAM);
    int copy = clone_of(s.k), ends[2];
    if (pipe(ends))
        die("pipe");
    pid_t pid = child();
    if (pid == 0) {
        char buffer[64];
        fcntl(copy, F_SETFL, O_RDWR);
        ssize_t got = recv(copy, buffer, sizeof buffer, 0);
        _exit(got == 5 ? buffer[4] : 1);
    }
    settle();
    send_message(s.tcp.peer, 'A', 1);
    settle();
    send_message(s.tcp.peer, 'B', 1);
    int status = child_ended(pid, 3000);
    fact("sleeping reader of the second", "got %c", status > 32 ? status : '-');
    fact("the first has", "%s", drain(s.k));
}

static void two_streams(void)
{
    struct scene s = scene(SOCK_DGRAM);
    int copy = clone_of(s.k);
    struct tcp other = tcp_pair();
    attach(s.k, other.near, parser_be32());
    for (int i = 0; i < 3; i++) {
        send_message(s.tcp.peer, (char)('A' + i), 1);
        settle();
        send_message(other.peer, (char)('a' + i), 1);
        settle();
    }
    fact("alternating", "%s | %s", drain(s.k), drain(copy));
    send_bytes(s.tcp.peer, "\0\0\0\6xx", 6);
    settle();
    send_message(other.peer, 'y', 1);
    fact("one in mid-message", "%s | %s", drain(s.k), drain(copy));
    send_bytes(s.tcp.peer, "xxxx", 4);
    fact("then its rest", "%s | %s", drain(s.k), drain(copy));
}

static void disabled(void)
{
    struct scene s = scene(SOCK_DGRAM);
    int copy = clone_of(s.k);
    recv_disable(s.k, 1);
    for (char letter = 'A'; letter < 'D'; letter++)
        send_message(s.tcp.peer, letter, 1);
    fact("first disabled", "%s | %s", drain(s.k), drain(copy));
    recv_disable(copy, 1);
    for (char letter = 'D'; letter < 'G'; letter++)
        send_message(s.tcp.peer, letter, 1);
    settle();
    fact("both disabled", "%s | %s tcp %s", drain(s.k), drain(copy), polled(s.tcp.near));
    recv_disable(copy, 0);
    fact("second enabled", "%s | %s", drain(s.k), drain(copy));
    recv_disable(copy, 1);
    send_message(s.tcp.peer, 'G', 1);
    settle();
    int third = clone_of(s.k);
    fact("a new clone", "%s | %s | %s", drain(s.k), drain(copy), drain(third));
    fact("sending when disabled", "%s peer %s", result(send(s.k, "out", 3, 0)), stream(s.tcp.peer));
}

/* Messages that wait in a socket go to another when it is disabled or closed. */
static void moved(void)
{
    struct scene s = scene(SOCK_DGRAM);
    for (char letter = 'A'; letter < 'D'; letter++)
        send_message(s.tcp.peer, letter, 1);
    settle();
    int copy = clone_of(s.k);
    recv_disable(s.k, 1);
    fact("disabled", "poll %s %s, %s | %s", polled(s.k), polled(copy), drain(s.k), drain(copy));
    struct scene t = scene(SOCK_DGRAM);
    for (char letter = 'A'; letter < 'D'; letter++)
        send_message(t.tcp.peer, letter, 1);
    settle();
    copy = clone_of(t.k);
    send_message(t.tcp.peer, 'D', 1);
    settle();
    close(t.k);
    fact("closed", "%s", drain(copy));
    struct scene u = scene(SOCK_DGRAM);
    copy = clone_of(u.k);
    recv_disable(copy, 1);
    for (char letter = 'A'; letter < 'D'; letter++)
        send_message(u.tcp.peer, letter, 1);
    settle();
    recv_disable(u.k, 1);
    fact("nobody left", "poll %s %s, %s | %s", polled(u.k), polled(copy), drain(u.k), drain(copy));
    send_message(u.tcp.peer, 'D', 1);
    settle();
    recv_disable(copy, 0);
    fact("then the other enabled", "%s | %s", drain(u.k), drain(copy));
    recv_disable(copy, 1);
    send_message(u.tcp.peer, 'E', 1);
    send_message(u.tcp.peer, 'F', 1);
    settle();
    recv_disable(u.k, 0);
    fact("then the first enabled", "%s | %s", drain(u.k), drain(copy));
}

static void moved_to_several(void)
{
    struct scene s = scene(SOCK_DGRAM);
    int second, third;
    for (char letter = 'A'; letter < 'G'; letter++)
        send_message(s.tcp.peer, letter, 1);
    settle();
    second = clone_of(s.k);
    third = clone_of(s.k);
    recv_disable(s.k, 1);
    fact("six moved", "%s | %s", drain(second), drain(third));
    for (char letter = 'G'; letter < 'K'; letter++) {
        send_message(s.tcp.peer, letter, 1);
        settle();
    }
    fact("four later", "%s | %s", drain(second), drain(third));
}

static void partly_read(void)
{
    /* A part of a message was read, by a peek at least, when it moves. */
    struct scene s = scene(SOCK_SEQPACKET);
    send_message(s.tcp.peer, 'P', 4);
    send_message(s.tcp.peer, 'Q', 4);
    settle();
    int copy = clone_of(s.k);
    fact("peeked", "%s", receive(s.k, 3, MSG_PEEK));
    recv_disable(s.k, 1);
    fact("moved after a peek", "%s | %s", drain(s.k), drain(copy));
    struct scene t = scene(SOCK_SEQPACKET);
    send_message(t.tcp.peer, 'P', 4);
    settle();
    copy = clone_of(t.k);
    fact("3 of 8 read", "%s", receive(t.k, 3, 0));
    recv_disable(t.k, 1);
    fact("moved after a read", "%s | %s", drain(t.k), drain(copy));
}

static void waiting_at_unattach(void)
{
    struct scene s = scene(SOCK_DGRAM);
    recv_disable(s.k, 1);
    send_message(s.tcp.peer, 'A', 1);
    send_message(s.tcp.peer, 'B', 1);
    settle();
    fact("unattach", "%s", result(unattach(s.k, s.tcp.near)));
    recv_disable(s.k, 0);
    fact("enabled then", "%s raw %s", drain(s.k), stream(s.tcp.near));
}

static void mixed_types(void)
{
    struct scene s = scene(SOCK_SEQPACKET);
    int copy = clone_of(s.k);
    recv_disable(s.k, 1);
    send_message(s.tcp.peer, 'm', 4);
    fact("clone of a SEQPACKET socket", "%s", receive(copy, 64, 0));
    fact("sends without an end", "%s peer %s", result(send(copy, "a", 1, 0)), stream(s.tcp.peer));
}

static void full(void)
{
    /* The first socket is full: what comes next goes to the second, and what fits nowhere waits. */
    struct scene s = scene(SOCK_DGRAM);
    int copy = clone_of(s.k), first = 0, second = 0;
    set_option(s.k, SOL_SOCKET, SO_RCVBUF, 1);
    char buffer[64];
    for (int n = 0; n < 40; n++) {
        send_message(s.tcp.peer, (char)('a' + n % 26), 1);
        usleep(10000);
    }
    settle();
    while (recv(s.k, buffer, sizeof buffer, MSG_DONTWAIT) > 0)
        first++;
    while (recv(copy, buffer, sizeof buffer, MSG_DONTWAIT) > 0)
        second++;
    fact("sum", "%d", first + second);
    fact("the small one has fewer", "%d", first < second);
    fact("the small one has", "%d", first);
}

/* A full socket takes more only when it was emptied, or filled less than SO_RCVLOWAT. */
static void full_and_emptied(void)
{
    for (int low = 0; low < 2; low++) {
        const char *name = low ? "SO_RCVLOWAT 4000" : "SO_RCVLOWAT 1";
        struct scene s = scene(SOCK_DGRAM);
        char buffer[64];
        set_option(s.k, SOL_SOCKET, SO_RCVBUF, 1);
        if (low)
            set_option(s.k, SOL_SOCKET, SO_RCVLOWAT, 4000);
        for (char letter = 'A'; letter < 'I'; letter++)
            send_message(s.tcp.peer, letter, 1);
        settle();
        ssize_t got = recv(s.k, buffer, sizeof buffer, 0);
        settle();
        /* What the socket has not taken yet does not come with unattach: one message that was cut is lost. */
        unattach(s.k, s.tcp.near);
        fact(name, "one read %s, has %s, raw %s", result(got), drain(s.k), stream(s.tcp.near));
    }
}

/* Whoever gets what: nothing is lost or doubled, and what one socket gets of one TCP connection is in its order. */
static void order(void)
{
    enum { streams = 2, sockets = 3, messages = 150 };
    struct scene s = scene(SOCK_DGRAM);
    struct tcp tcp[streams] = {s.tcp, tcp_pair()};
    int k[sockets] = {s.k, clone_of(s.k), clone_of(s.k)}, seen[streams][messages] = {{0}}, once = 1, ordered = 1;
    unsigned char buffer[64];
    attach(s.k, tcp[1].near, parser_be32());
    for (int n = 0; n < messages; n++) {
        for (int i = 0; i < streams; i++) {
            const unsigned char message[] = {0, 0, 0, 2, (unsigned char)i, (unsigned char)n};
            send_bytes(tcp[i].peer, message, sizeof message);
        }
    }
    settle();
    for (int i = 0; i < sockets; i++) {
        int last[streams] = {-1, -1};
        while (polled_for(k[i], POLLIN, quiet)[0] == 'I' && recv(k[i], buffer, sizeof buffer, 0) == 6) {
            ordered &= buffer[5] > last[buffer[4]];
            last[buffer[4]] = buffer[5];
            seen[buffer[4]][buffer[5]]++;
        }
    }
    for (int n = 0; n < messages; n++)
        once &= seen[0][n] == 1 && seen[1][n] == 1;
    fact("each once", "%d", once);
    fact("in order", "%d", ordered);
}

static const struct test_case cases[] = {{"in_turn", in_turn},
                                         {"three", three_sockets},
                                         {"late_clone", late_clone},
                                         {"sleeper", busy_and_idle},
                                         {"streams", two_streams},
                                         {"disabled", disabled},
                                         {"moved", moved},
                                         {"moved_to_several", moved_to_several},
                                         {"partly_read", partly_read},
                                         {"unattach", waiting_at_unattach},
                                         {"types", mixed_types},
                                         {"full", full},
                                         {"emptied", full_and_emptied},
                                         {"order", order},
                                         {0}};
const struct group group_steer = {"steer", cases};
