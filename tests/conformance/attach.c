/* Attaching, unattaching, cloning. */
#define _GNU_SOURCE
#include "conformance.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int listening(struct sockaddr_in *address)
{
    socklen_t length = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)address, length) || listen(fd, 1) ||
        getsockname(fd, (struct sockaddr *)address, &length))
        die("listen");
    return fd;
}

static void errors(void)
{
    int k = kcm(SOCK_DGRAM), other = kcm(SOCK_SEQPACKET), program = parser_be32(), ends[2];
    struct sockaddr_in address;
    if (pipe(ends))
        die("pipe");
    struct {
        const char *name;
        int fd;
    } wrong[] = {
        {"fd -1", -1},
        {"fd closed", 999},
        {"pipe", ends[0]},
        {"UDP", socket(AF_INET, SOCK_DGRAM, 0)},
        {"TCP unconnected", socket(AF_INET, SOCK_STREAM, 0)},
        {"TCP listening", listening(&address)},
        {"TCP over IPv6 unconnected", socket(AF_INET6, SOCK_STREAM, 0)},
        {"Unix", socket(AF_UNIX, SOCK_STREAM, 0)},
        {"other mux", other},
        {"itself", k},
        {"bpf program", program},
    };
    for (size_t i = 0; i < LENGTH_OF(wrong); i++) {
        fact(wrong[i].name, "%s, with bpf -1 %s, unattach %s", result(attach(k, wrong[i].fd, program)),
             result(attach(k, wrong[i].fd, -1)), result(unattach(k, wrong[i].fd)));
    }
    struct tcp tcp = tcp_pair();
    const struct bpf_insn zero[] = {MOV_IMM(0, 0), EXIT()};
    const struct bpf_insn two[] = {MOV_IMM(0, 2), EXIT()};
    struct {
        const char *name;
        int fd;
    } programs[] = {
        {"bpf -1", -1},
        {"bpf closed", 998},
        {"bpf pipe", ends[0]},
        {"bpf TCP", tcp.peer},
        {"bpf map", array_map(4, 1)},
        {"bpf SCHED_CLS", load(BPF_PROG_TYPE_SCHED_CLS, zero, 2)},
        {"bpf XDP", load(BPF_PROG_TYPE_XDP, two, 2)},
        {"bpf SK_SKB", load(BPF_PROG_TYPE_SK_SKB, zero, 2)},
    };
    for (size_t i = 0; i < LENGTH_OF(programs); i++)
        fact(programs[i].name, "%s", result(attach(k, tcp.near, programs[i].fd)));
    fact("arguments null", "attach %s, unattach %s, clone %s", result(ioctl(k, SIOCKCMATTACH, NULL)),
         result(ioctl(k, SIOCKCMUNATTACH, NULL)), result(ioctl(k, SIOCKCMCLONE, NULL)));
    struct kcm_clone clone;
    fact("on a TCP socket", "attach %s, unattach %s, clone %s", result(attach(tcp.peer, tcp.near, program)),
         result(unattach(tcp.peer, tcp.near)), result(ioctl(tcp.peer, SIOCKCMCLONE, &clone)));
    fact("on a pipe", "attach %s", result(attach(ends[0], tcp.near, program)));
    fact("on fd -1", "attach %s", result(attach(-1, tcp.near, program)));
    fact("good", "%s", result(attach(k, tcp.near, program)));
    fact("again", "same mux %s, other mux %s, with bpf -1 %s", result(attach(k, tcp.near, program)),
         result(attach(other, tcp.near, program)), result(attach(k, tcp.near, -1)));
    fact("other end too", "%s", result(attach(other, tcp.peer, program)));
    fact("unattach from the wrong mux", "%s", result(unattach(other, tcp.near)));
    fact("unattach", "%s, again %s", result(unattach(k, tcp.near)), result(unattach(k, tcp.near)));
    fact("attach to another mux", "%s", result(attach(other, tcp.near, program)));
}

static void by_other_descriptors(void)
{
    int k = kcm(SOCK_DGRAM), copy = clone_of(k), program = parser_be32();
    struct tcp tcp = tcp_pair();
    int again = dup(tcp.near);
    fact("attach through a dup", "%s", result(attach(k, again, program)));
    fact("the original then", "%s", result(attach(copy, tcp.near, program)));
    fact("unattach by the original and a clone", "%s", result(unattach(copy, tcp.near)));
    fact("the dup then", "%s", result(unattach(k, again)));
    attach(copy, tcp.near, program);
    close(k);
    fact("the first socket closed", "unattach by the clone %s", result(unattach(copy, again)));
    fact("attach with the dup of a KCM socket", "%s", result(attach(dup(copy), tcp.near, program)));
    close(program);
    send_message(tcp.peer, 'p', 3);
    fact("program's descriptor closed", "%s", drain(copy));
}

static void cloning(void)
{
    for (int i = 0; i < 2; i++) {
        int k = kcm(types[i]), copy = clone_of(k), third = clone_of(copy);
        fact(text("%s type", type_name(types[i])), "%s %s", result(option(copy, SOL_SOCKET, SO_TYPE)),
             result(option(third, SOL_SOCKET, SO_TYPE)));
    }
    int k = kcm(SOCK_DGRAM);
    struct rlimit limit = {.rlim_cur = (rlim_t)k + 1, .rlim_max = 64};
    setrlimit(RLIMIT_NOFILE, &limit);
    struct kcm_clone clone = {.fd = -5};
    fact("at the limit of descriptors", "%s", result(ioctl(k, SIOCKCMCLONE, &clone)));
    fact("untouched", "%d", clone.fd);
    fact("null at the limit", "%s", result(ioctl(k, SIOCKCMCLONE, NULL)));
}

/* What came before attaching is not lost, and is looked at without anything more coming. */
static void data_before(void)
{
    int k = kcm(SOCK_DGRAM), program = parser_be32();
    struct tcp tcp = tcp_pair();
    send_message(tcp.peer, 'a', 5);
    send_message(tcp.peer, 'b', 5);
    settle();
    fact("attach", "%s", result(attach(k, tcp.near, program)));
    fact("whole messages", "%s", drain(k));
    struct tcp half = tcp_pair();
    send_bytes(half.peer, "\0\0\0\6xx", 6);
    settle();
    attach(k, half.near, program);
    settle();
    fact("half a message", "%s", drain(k));
    send_bytes(half.peer, "xxxx", 4);
    fact("the rest", "%s", drain(k));
    struct tcp read = tcp_pair();
    char byte;
    send_bytes(read.peer, "junk\0\0\0\3yyy", 11);
    settle();
    for (int i = 0; i < 4; i++)
        if (recv(read.near, &byte, 1, 0) != 1)
            die("recv");
    attach(k, read.near, program);
    fact("partly read segment", "%s", drain(k));
    struct tcp ended = tcp_pair();
    send_message(ended.peer, 'e', 2);
    close(ended.peer);
    settle();
    fact("attach after FIN", "%s", result(attach(k, ended.near, program)));
    fact("message before the FIN", "%s", drain(k));
    fact("tcp after the FIN", "%s SO_ERROR %s", polled(ended.near), socket_error(ended.near));
}

static void states(void)
{
    int program = parser_be32();
    struct sockaddr_in address;
    int k = kcm(SOCK_DGRAM);
    struct tcp reset = tcp_pair();
    struct linger now = {.l_onoff = 1};
    setsockopt(reset.peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(reset.peer);
    settle();
    fact("after RST", "%s", result(attach(k, reset.near, program)));
    struct tcp half = tcp_pair();
    shutdown(half.near, SHUT_WR);
    settle();
    fact("after SHUT_WR", "%s", result(attach(k, half.near, program)));
    send_message(half.peer, 'h', 2);
    fact("after SHUT_WR receives", "%s", drain(k));
    unattach(k, half.near);
    /* A full backlog leaves the next connection in SYN_SENT. */
    int listener = listening(&address), fillers[8], pending = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    for (size_t i = 0; i < LENGTH_OF(fillers); i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fillers[i], (struct sockaddr *)&address, sizeof address);
    }
    settle();
    fact("connect", "%s", result(connect(pending, (struct sockaddr *)&address, sizeof address)));
    fact("in SYN_SENT", "%s", result(attach(k, pending, program)));
    fact("send in SYN_SENT", "%s", result(send(k, "early", 5, 0)));
    fact("unattach in SYN_SENT", "%s", result(unattach(k, pending)));
    close(listener);
    struct tcp shut = tcp_pair();
    shutdown(shut.near, SHUT_RDWR);
    shutdown(shut.peer, SHUT_RDWR);
    settle();
    fact("after SHUT_RDWR by both", "%s", result(attach(k, shut.near, program)));
}

/* A connection that comes through while it is attached: that too is a change of state. */
static void connecting(void)
{
    struct sockaddr_in address;
    int listener = listening(&address), fillers[8], k = kcm(SOCK_DGRAM), peer = -1;
    int pending = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    for (size_t i = 0; i < LENGTH_OF(fillers); i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fillers[i], (struct sockaddr *)&address, sizeof address);
    }
    settle();
    connect(pending, (struct sockaddr *)&address, sizeof address);
    fact("attach", "%s", result(attach(k, pending, parser_be32())));
    fact("send", "%s", result(send(k, "early", 5, 0)));
    struct sockaddr_in mine, other;
    socklen_t length = sizeof mine;
    getsockname(pending, (struct sockaddr *)&mine, &length);
    for (int i = 0; i < 20 && peer < 0 && strcmp(polled_for(listener, POLLIN, 4000), "0"); i++) {
        length = sizeof other;
        peer = accept(listener, (struct sockaddr *)&other, &length);
        if (other.sin_port != mine.sin_port)
            peer = -1;
    }
    fact("comes through", "%d tcp %s SO_ERROR %s", peer >= 0, polled(pending), socket_error(pending));
    fcntl(peer, F_SETFL, O_RDWR | O_NONBLOCK);
    fact("peer", "%s", stream(peer));
    fact("send then", "%s peer %s", result(send(k, "later", 5, 0)), stream(peer));
    send_message(peer, 'r', 2);
    fact("receives", "%s", drain(k));
}

static void over_ipv6(void)
{
    struct tcp tcp = tcp_pair_of(AF_INET6, AF_INET6);
    int k = kcm(SOCK_DGRAM);
    fact("attach", "%s", result(attach(k, tcp.near, parser_be32())));
    send_message(tcp.peer, 's', 6);
    fact("receive", "%s", drain(k));
    fact("send", "%s", result(send(k, "six", 3, 0)));
    fact("peer", "%s", stream(tcp.peer));
}

static void taken_away(void)
{
    int program = parser_be32();
    struct scene s = scene(SOCK_DGRAM);
    send_message(s.tcp.peer, 'A', 1);
    settle();
    fact("unattach", "%s", result(unattach(s.k, s.tcp.near)));
    fact("queued message", "%s", drain(s.k));
    send_message(s.tcp.peer, 'B', 1);
    fact("raw", "%s", receive(s.tcp.near, 64, 0));
    fact("kcm", "%s", drain(s.k));
    fact("tcp poll", "%s", polled(s.tcp.near));
    fact("send", "kcm %s, raw %s", result(send(s.k, "q", 1, 0)), result(send(s.tcp.near, "r", 1, 0)));
    fact("peer", "%s", stream(s.tcp.peer));
    fact("attach again", "%s", result(attach(s.k, s.tcp.near, program)));
    fact("peer then", "%s", stream(s.tcp.peer));
    send_message(s.tcp.peer, 'C', 1);
    fact("kcm then", "%s", drain(s.k));
    fact("with another parser", "%s %s", result(unattach(s.k, s.tcp.near)),
         result(attach(s.k, s.tcp.near, parser_constant(10))));
    send_bytes(s.tcp.peer, "0123456789", 10);
    fact("the other parser's", "%s", receive(s.k, 64, 0));
}

static void partly_assembled(void)
{
    static const struct {
        const char *name;
        size_t first, second;
    } list[] = {
        {"10 of 24", 10, 0}, {"10 and 5 of 24", 10, 5}, {"2 of the header", 2, 0}, {"2 and 1 of the header", 2, 1}};
    char message[24];
    put_message(message, 'P', 20);
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        struct scene s = scene(SOCK_DGRAM);
        send_bytes(s.tcp.peer, message, list[i].first);
        settle();
        if (list[i].second)
            send_bytes(s.tcp.peer, message + list[i].first, list[i].second);
        settle();
        fact(text("%s, unattach", list[i].name), "%s raw %s", result(unattach(s.k, s.tcp.near)), stream(s.tcp.near));
        send_bytes(s.tcp.peer, message + list[i].first + list[i].second, 4);
        fact(text("%s, the next bytes", list[i].name), "raw %s kcm %s", stream(s.tcp.near), drain(s.k));
    }
}

static void last_socket_closed(void)
{
    struct scene s = scene(SOCK_DGRAM);
    int copy = clone_of(s.k);
    close(s.k);
    send_message(s.tcp.peer, 'a', 1);
    fact("one of two closed", "kcm %s", drain(copy));
    close(copy);
    settle();
    send_message(s.tcp.peer, 'b', 1);
    fact("both closed", "raw %s", stream(s.tcp.near));
    fact("attach to a new mux", "%s", result(attach(kcm(SOCK_DGRAM), s.tcp.near, parser_be32())));
    struct scene t = scene(SOCK_DGRAM);
    send_message(t.tcp.peer, 'l', 3);
    settle();
    close(t.k);
    settle();
    fact("closed with a message unread", "raw %s tcp %s", stream(t.tcp.near), polled(t.tcp.near));
    fact("peer", "%s", stream(t.tcp.peer));
}

static const struct test_case cases[] = {{"errors", errors},
                                         {"descriptors", by_other_descriptors},
                                         {"clone", cloning},
                                         {"data_before", data_before},
                                         {"states", states},
                                         {"connecting", connecting},
                                         {"ipv6", over_ipv6},
                                         {"unattach", taken_away},
                                         {"partial", partly_assembled},
                                         {"last_close", last_socket_closed},
                                         {0}};
const struct group group_attach = {"attach", cases};
