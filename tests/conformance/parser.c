/* What each answer of a parser does, and what a parser is shown. */
#define _GNU_SOURCE
#include "conformance.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void answers(void)
{
    static const int list[] = {8, 7, 4, 3, 1, 0, -1, -2, -4, -5, -11, -32, -71, -86, -100000, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        /* The answer is constant and the message unequal bytes, so that one sees what was cut. */
        struct scene s = scene_with(SOCK_DGRAM, parser_constant(list[i]));
        int waiting = 0;
        send_bytes(s.tcp.peer, "01234567", 8);
        const char *got = drain(s.k);
        ioctl(s.tcp.near, FIONREAD, &waiting);
        const char *tcp = polled(s.tcp.near), *error = socket_error(s.tcp.near);
        fact(text("answer %d", list[i]), "kcm %s tcp %s SO_ERROR %s FIONREAD %d kcm SO_ERROR %s", got, tcp, error,
             waiting, socket_error(s.k));
        send_bytes(s.tcp.peer, "abcde", 5);
        const char *then = drain(s.k);
        fact(text("answer %d, 5 more", list[i]), "kcm %s raw %s tcp %s unattach %s", then, stream(s.tcp.near),
             polled(s.tcp.near), result(unattach(s.k, s.tcp.near)));
    }
}

static void high_bits(void)
{
    const struct bpf_insn insns[] = {LOAD_IMM64(0, 10, 1), EXIT()};
    const struct bpf_insn negative[] = {LOAD_IMM64(0, -5, 0), EXIT()};
    struct scene s = scene_with(SOCK_DGRAM, load(BPF_PROG_TYPE_SOCKET_FILTER, insns, LENGTH_OF(insns)));
    send_bytes(s.tcp.peer, "0123456789", 10);
    fact("0x10000000a", "%s", drain(s.k));
    struct scene t = scene_with(SOCK_DGRAM, load(BPF_PROG_TYPE_SOCKET_FILTER, negative, LENGTH_OF(negative)));
    send_bytes(t.tcp.peer, "0123456789", 10);
    fact("0xfffffffb", "%s SO_ERROR %s", drain(t.k), socket_error(t.tcp.near));
}

/* Answers that come only when some of the message was seen before. */
static void later(void)
{
    static const struct {
        const char *name;
        int value;
    } list[] = {{"1 after 2", 1}, {"2 after 2", 2}, {"3 after 2", 3},     {"8 after 2", 8},
                {"9 after 2", 9}, {"0 after 2", 0}, {"-86 after 2", -86}, {"-5 after 2", -5}};
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        /* 0 until the third byte can be loaded. */
        const struct bpf_insn insns[] = {MOV_REG(6, 1), LOAD_ABS(BPF_B, 2), MOV_IMM(0, list[i].value), EXIT()};
        struct scene s = scene_with(SOCK_DGRAM, load(BPF_PROG_TYPE_SOCKET_FILTER, insns, LENGTH_OF(insns)));
        send_bytes(s.tcp.peer, "01", 2);
        settle();
        send_bytes(s.tcp.peer, "234567", 6);
        const char *got = drain(s.k);
        const char *error = socket_error(s.tcp.near);
        fact(list[i].name, "kcm %s SO_ERROR %s raw %s", got, error, stream(s.tcp.near));
    }
}

/* A parser that counts how often it is called, and writes down how much it was shown. */
static int recording_parser(int map)
{
    const struct bpf_insn insns[] = {MOV_REG(6, 1),
                                     STORE_IMM(BPF_W, 10, -4, 0),
                                     MOV_REG(2, 10),
                                     ADD_IMM(2, -4),
                                     LOAD_MAP(1, map),
                                     CALL(BPF_FUNC_map_lookup_elem),
                                     JUMP_IMM(BPF_JNE, 0, 0, 2),
                                     MOV_IMM(0, 0),
                                     EXIT(),
                                     MOV_REG(7, 0),
                                     LOAD(BPF_W, 8, 7, 0), /* calls so far */
                                     MOV_REG(9, 8),
                                     ADD_IMM(9, 1),
                                     STORE(BPF_W, 7, 9, 0),
                                     JUMP_IMM(BPF_JGT, 8, 14, 10),
                                     ADD_IMM(8, 1),
                                     STORE(BPF_W, 10, 8, -4),
                                     MOV_REG(2, 10),
                                     ADD_IMM(2, -4),
                                     LOAD_MAP(1, map),
                                     CALL(BPF_FUNC_map_lookup_elem),
                                     JUMP_IMM(BPF_JEQ, 0, 0, 2),
                                     LOAD(BPF_W, 8, 6, offsetof(struct __sk_buff, len)),
                                     STORE(BPF_W, 0, 8, 0),
                                     LOAD_ABS(BPF_W, 0),
                                     ADD_IMM(0, 4),
                                     EXIT()};
    int program = load(BPF_PROG_TYPE_SOCKET_FILTER, insns, LENGTH_OF(insns));
    if (program < 0)
        die("loading a parser with a map");
    return program;
}

static int map_value(int map, int key)
{
    union bpf_attr attributes;
    int value = -1;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_fd = (uint32_t)map;
    attributes.key = (uint64_t)(uintptr_t)&key;
    attributes.value = (uint64_t)(uintptr_t)&value;
    return bpf_call(BPF_MAP_LOOKUP_ELEM, &attributes, sizeof attributes) ? -1 : value;
}

static const char *calls_seen(int map)
{
    int calls = map_value(map, 0);
    char line[256];
    size_t used = (size_t)snprintf(line, sizeof line, "%d calls, shown", calls);
    for (int i = 1; i <= calls && i < 16; i++)
        used += (size_t)snprintf(line + used, sizeof line - used, " %d", map_value(map, i));
    return text("%s", line);
}

static void calls(void)
{
    static const struct {
        const char *name;
        size_t sizes[4];
        size_t cuts[9];
    } list[] = {
        {"one message", {5}, {9}},
        {"three equal in one segment", {3, 3, 3}, {21}},
        {"byte by byte", {2}, {1, 1, 1, 1, 1, 1}},
        {"header then three parts", {30}, {4, 10, 10, 10}},
        {"cut in the second header", {6, 6}, {12, 8}},
        {"header in two parts", {8}, {2, 2, 8}},
    };
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        int map = array_map(4, 16);
        struct scene s = scene_with(SOCK_DGRAM, recording_parser(map));
        char bytes[128];
        size_t end = 0, at = 0;
        for (size_t m = 0; m < 4 && list[i].sizes[m]; m++)
            end += put_message(bytes + end, (char)('a' + m), list[i].sizes[m]);
        for (size_t c = 0; list[i].cuts[c]; at += list[i].cuts[c++]) {
            send_bytes(s.tcp.peer, bytes + at, list[i].cuts[c]);
            settle();
        }
        if (at != end)
            die("cuts");
        fact(list[i].name, "%s kcm %s", calls_seen(map), drain(s.k));
    }
}

static void too_long(void)
{
    enum { asked = 4096 };
    static const struct {
        const char *name;
        int over, percent;
    } list[] = {{"limit + 1", 1, 100}, {"limit * 4", 0, 400}, {"a quarter", 0, 25}, {"an eighth", 0, 12}};
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        struct scene s = {.k = kcm(SOCK_DGRAM), .tcp = tcp_pair_with(asked, 0)};
        int limit = option(s.tcp.near, SOL_SOCKET, SO_RCVBUF);
        size_t length = (size_t)(limit * list[i].percent / 100 + list[i].over);
        char *message = malloc(length);
        attach(s.k, s.tcp.near, parser_be32());
        put_message(message, 'm', length - 4);
        ssize_t sent = send(s.tcp.peer, message, length, MSG_DONTWAIT);
        const char *got = drain(s.k);
        while (sent >= 0 && (size_t)sent < length) {
            ssize_t more = send(s.tcp.peer, message + sent, length - (size_t)sent, MSG_DONTWAIT);
            if (more < 0)
                break;
            sent += more;
            got = drain(s.k);
        }
        const char *tcp = polled(s.tcp.near), *error = socket_error(s.tcp.near);
        fact(list[i].name, "kcm %s tcp %s SO_ERROR %s limit %d", got, tcp, error, limit);
        if (!strcmp(error, "EMSGSIZE")) {
            char first[4] = {0};
            ssize_t raw = recv(s.tcp.near, first, 4, 0);
            fact(text("%s, raw", list[i].name), "%s %s send %s", result(raw), quoted(first, 4),
                 result(send(s.k, "s", 1, 0)));
            fact(text("%s, peer", list[i].name), "%s unattach %s", stream(s.tcp.peer),
                 result(unattach(s.k, s.tcp.near)));
        }
        free(message);
    }
}

static void limit_of_tcp(void)
{
    struct scene s = scene(SOCK_DGRAM);
    char header[8];
    set_option(s.tcp.near, SOL_SOCKET, SO_RCVBUF, 4096);
    put_message(header, 'h', 1);
    uint32_t length = htonl(8192 - 4);
    memcpy(header, &length, 4);
    send_bytes(s.tcp.peer, header, 5);
    settle();
    fact("lowered after attach, exactly", "SO_ERROR %s", socket_error(s.tcp.near));
    struct scene t = scene(SOCK_DGRAM);
    set_option(t.tcp.near, SOL_SOCKET, SO_RCVBUF, 4096);
    length = htonl(8193 - 4);
    memcpy(header, &length, 4);
    send_bytes(t.tcp.peer, header, 5);
    settle();
    fact("lowered after attach, one more", "SO_ERROR %s", socket_error(t.tcp.near));
    struct scene u = scene(SOCK_DGRAM);
    set_option(u.k, SOL_SOCKET, SO_RCVBUF, 1);
    send_message(u.tcp.peer, 'u', 20000);
    fact("above SO_RCVBUF of the KCM socket", "%s SO_ERROR %s", drain(u.k), socket_error(u.tcp.near));
}

static void good_then_bad(void)
{
    struct scene s = scene_with(SOCK_DGRAM, parser_verbatim());
    send_bytes(s.tcp.peer, "\0\0\0\5a", 5);
    settle();
    send_bytes(s.tcp.peer, "\0\0\0\5b", 5);
    settle();
    send_bytes(s.tcp.peer, "\xff\xff\xff\xf0zz", 6);
    settle();
    fact("messages before the error", "%s", drain(s.k));
    fact("tcp", "%s SO_ERROR %s", polled(s.tcp.near), socket_error(s.tcp.near));
    fact("raw", "%s", stream(s.tcp.near));
    send_bytes(s.tcp.peer, "\0\0\0\5c", 5);
    fact("later data", "kcm %s raw %s", drain(s.k), stream(s.tcp.near));
    fact("send", "%s", result(send(s.k, "out", 3, 0)));
    fact("peer", "%s", stream(s.tcp.peer));
    fact("attach again", "%s %s", result(attach(s.k, s.tcp.near, parser_be32())), result(unattach(s.k, s.tcp.near)));
    fact("after unattach", "%s", result(attach(s.k, s.tcp.near, parser_be32())));
    send_message(s.tcp.peer, 'd', 2);
    fact("anew", "%s", drain(s.k));
}

/* SO_ERROR that nobody has read is in the way of sending. */
static void error_not_read(void)
{
    struct scene s = scene_with(SOCK_DGRAM, parser_constant(-71));
    send_bytes(s.tcp.peer, "bad", 3);
    settle();
    fact("send", "%s peer %s", result(send(s.k, "x", 1, MSG_NOSIGNAL)), stream(s.tcp.peer));
    fact("tcp", "%s SO_ERROR %s then %s", polled(s.tcp.near), socket_error(s.tcp.near), socket_error(s.tcp.near));
    fact("send again", "%s peer %s", result(send(s.k, "y", 1, MSG_NOSIGNAL)), stream(s.tcp.peer));
    struct tcp other = tcp_pair();
    attach(s.k, other.near, parser_be32());
    fact("another TCP socket", "%s", stream(other.peer));
}

static const struct test_case cases[] = {{"answers", answers},
                                         {"bits", high_bits},
                                         {"later", later},
                                         {"calls", calls},
                                         {"too_long", too_long},
                                         {"limit", limit_of_tcp},
                                         {"recovery", good_then_bad},
                                         {"unread", error_not_read},
                                         {0}};
const struct group group_parser = {"parser", cases};
