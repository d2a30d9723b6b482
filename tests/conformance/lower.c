/* The TCP descriptor while it is attached. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

static const char *state(int tcp_fd)
{
    const char *seen = polled(tcp_fd), *got = receive(tcp_fd, 64, MSG_DONTWAIT), *error = socket_error(tcp_fd);
    const char *then = polled(tcp_fd), *more = receive(tcp_fd, 64, MSG_DONTWAIT);
    return text("%s recv %s SO_ERROR %s then %s recv %s", seen, got, error, then, more);
}

static void reset_by(int fd)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static void ends(void)
{
    static const struct {
        const char *name;
        const char *bytes;
        size_t length;
        int reset;
    } list[] = {{"FIN", "", 0, 0},
                {"message and FIN", "\0\0\0\3mmm", 7, 0},
                {"FIN in mid-message", "\0\0\0\144ffffff", 10, 0},
                {"FIN in the header", "\0\0", 2, 0},
                {"RST", "", 0, 1},
                {"message and RST", "\0\0\0\3mmm", 7, 1},
                {"RST in mid-message", "\0\0\0\144ffffff", 10, 1}};
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        struct scene s = scene(SOCK_DGRAM);
        if (list[i].length)
            send_bytes(s.tcp.peer, list[i].bytes, list[i].length);
        settle();
        if (list[i].reset)
            reset_by(s.tcp.peer);
        else
            close(s.tcp.peer);
        settle();
        fact(text("%s, kcm", list[i].name), "%s %s SO_ERROR %s", polled(s.k), drain(s.k), socket_error(s.k));
        fact(text("%s, tcp", list[i].name), "%s", state(s.tcp.near));
        fact(text("%s, unattach", list[i].name), "%s %s", result(unattach(s.k, s.tcp.near)), state(s.tcp.near));
    }
    struct scene s = scene(SOCK_DGRAM);
    send_message(s.tcp.peer, 'm', 3);
    close(s.tcp.peer);
    fact("message and close at once", "%s SO_ERROR %s", drain(s.k), socket_error(s.tcp.near));
    struct scene t = scene(SOCK_DGRAM);
    char part[104];
    put_message(part, 'f', 100);
    send_bytes(t.tcp.peer, part, 10);
    settle();
    send_bytes(t.tcp.peer, part + 10, 20);
    settle();
    close(t.tcp.peer);
    settle();
    int waiting = -1;
    ioctl(t.tcp.near, FIONREAD, &waiting);
    fact("30 of 104 in two segments, FIN", "FIONREAD %d raw %s kcm %s", waiting, receive(t.tcp.near, 64, 0),
         drain(t.k));
}

static void own_shutdown(void)
{
    static const struct {
        const char *name;
        int how;
    } list[] = {{"RD", SHUT_RD}, {"WR", SHUT_WR}, {"RDWR", SHUT_RDWR}};
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        struct scene s = scene(SOCK_DGRAM);
        fact(text("%s", list[i].name), "%s tcp %s SO_ERROR %s", result(shutdown(s.tcp.near, list[i].how)),
             polled(s.tcp.near), socket_error(s.tcp.near));
        fact(text("%s, peer", list[i].name), "%s", stream(s.tcp.peer));
        if (send(s.tcp.peer, "\0\0\0\2rr", 6, MSG_NOSIGNAL) == 6)
            fact(text("%s, message after it", list[i].name), "%s", drain(s.k));
        fact(text("%s, send", list[i].name), "%s", result(send(s.k, "s", 1, MSG_NOSIGNAL)));
        settle();
        fact(text("%s, peer then", list[i].name), "%s", stream(s.tcp.peer));
    }
}

/* Assembly of a message may last SO_RCVTIMEO of the TCP socket, from its first byte on. */
static void assembly_time(void)
{
    struct scene s = {.k = kcm(SOCK_DGRAM), .tcp = tcp_pair()};
    limit_time(s.tcp.near, SO_RCVTIMEO, 300);
    attach(s.k, s.tcp.near, parser_be32());
    char message[24];
    put_message(message, 't', 20);
    settle();
    settle();
    settle();
    fact("idle longer than it", "%s SO_ERROR %s", polled(s.tcp.near), socket_error(s.tcp.near));
    send_bytes(s.tcp.peer, message, 10);
    settle();
    send_bytes(s.tcp.peer, message + 10, 14);
    fact("within it", "%s SO_ERROR %s", drain(s.k), socket_error(s.tcp.near));
    send_bytes(s.tcp.peer, message, 10);
    for (int i = 0; i < 4; i++)
        settle();
    fact("beyond it", "%s SO_ERROR %s kcm %s SO_ERROR %s", polled(s.tcp.near), socket_error(s.tcp.near), polled(s.k),
         socket_error(s.k));
    send_bytes(s.tcp.peer, message + 10, 14);
    fact("the rest then", "kcm %s raw %s", drain(s.k), stream(s.tcp.near));
    fact("send then", "%s peer %s", result(send(s.k, "out", 3, 0)), stream(s.tcp.peer));
    fact("unattach and attach", "%s %s", result(unattach(s.k, s.tcp.near)),
         result(attach(s.k, s.tcp.near, parser_be32())));
    send_bytes(s.tcp.peer, message, 24);
    fact("works again", "%s", drain(s.k));
    /* Bytes that trickle in do not prolong it. */
    struct scene t = {.k = kcm(SOCK_DGRAM), .tcp = tcp_pair()};
    limit_time(t.tcp.near, SO_RCVTIMEO, 300);
    attach(t.k, t.tcp.near, parser_be32());
    for (int i = 0; i < 5; i++) {
        send_bytes(t.tcp.peer, message + i * 3, 3);
        settle();
    }
    fact("trickling", "SO_ERROR %s", socket_error(t.tcp.near));
    /* The limit that was set when the message began counts. */
    struct scene u = {.k = kcm(SOCK_DGRAM), .tcp = tcp_pair()};
    attach(u.k, u.tcp.near, parser_be32());
    send_bytes(u.tcp.peer, message, 10);
    settle();
    limit_time(u.tcp.near, SO_RCVTIMEO, 100);
    settle();
    settle();
    fact("set during a message", "SO_ERROR %s", socket_error(u.tcp.near));
    send_bytes(u.tcp.peer, message + 10, 14);
    fact("set during a message, the rest", "%s", drain(u.k));
    send_bytes(u.tcp.peer, message, 10);
    settle();
    settle();
    fact("set during a message, the next", "SO_ERROR %s", socket_error(u.tcp.near));
}

static void raw_reads(void)
{
    struct scene s = scene(SOCK_DGRAM);
    int waiting = -1;
    send_message(s.tcp.peer, 'a', 4);
    settle();
    ioctl(s.tcp.near, FIONREAD, &waiting);
    fact("after a message", "raw %s FIONREAD %d", receive(s.tcp.near, 64, 0), waiting);
    fact("kcm", "%s", drain(s.k));
    send_bytes(s.tcp.peer, "\0\0\0\10bbbb", 8);
    settle();
    ioctl(s.tcp.near, FIONREAD, &waiting);
    fact("a first part", "raw %s FIONREAD %d", receive(s.tcp.near, 64, MSG_PEEK), waiting);
    send_bytes(s.tcp.peer, "bb", 2);
    settle();
    ioctl(s.tcp.near, FIONREAD, &waiting);
    fact("a second part", "raw %s FIONREAD %d", receive(s.tcp.near, 64, MSG_PEEK), waiting);
    fact("stolen", "%s", receive(s.tcp.near, 64, 0));
    send_bytes(s.tcp.peer, "cccc", 4);
    fact("the message then", "%s", drain(s.k));
}

static void raw_writes(void)
{
    struct scene s = scene(SOCK_DGRAM);
    fact("send", "%s", result(send(s.tcp.near, "raw", 3, 0)));
    fact("kcm send", "%s", result(send(s.k, "kcm", 3, 0)));
    fact("peer", "%s", stream(s.tcp.peer));
    send(s.k, "half", 4, MSG_MORE);
    send(s.tcp.near, "between", 7, 0);
    send(s.k, "done", 4, 0);
    fact("in an open message", "%s", stream(s.tcp.peer));
    fact("options", "nodelay %s cork %s", result(set_option(s.tcp.near, IPPROTO_TCP, TCP_NODELAY, 0)),
         result(set_option(s.tcp.near, IPPROTO_TCP, TCP_CORK, 1)));
    send(s.k, "corked", 6, 0);
    set_option(s.tcp.near, IPPROTO_TCP, TCP_CORK, 0);
    fact("uncorked", "%s", stream(s.tcp.peer));
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    fact("getpeername", "%s", result(getpeername(s.tcp.near, (struct sockaddr *)&address, &length)));
    fact("SO_RCVLOWAT", "%d", option(s.tcp.near, SOL_SOCKET, SO_RCVLOWAT));
}

static void urgent(void)
{
    struct scene s = scene(SOCK_DGRAM);
    char message[16];
    size_t length = put_message(message, 'u', 8);
    send_bytes(s.tcp.peer, message, length);
    settle();
    send(s.tcp.peer, "!", 1, MSG_OOB);
    settle();
    fact("urgent byte", "tcp %s kcm %s", polled(s.tcp.near), drain(s.k));
    send_bytes(s.tcp.peer, message, length);
    fact("message after it", "%s", drain(s.k));
}

static const struct test_case cases[] = {{"ends", ends},
                                         {"shutdown", own_shutdown},
                                         {"assembly", assembly_time},
                                         {"reads", raw_reads},
                                         {"writes", raw_writes},
                                         {"urgent", urgent},
                                         {0}};
const struct group group_lower = {"lower", cases};
