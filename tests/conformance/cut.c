/* How a stream is cut into messages, whatever the segments were. */
#define _GNU_SOURCE
#include "conformance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t put_all(char *to, const char *sizes)
{
    size_t end = 0;
    char letter = 'a';
    for (const char *at = sizes; *at; letter++) {
        char *next;
        end += put_message(to + end, letter, strtoul(at, &next, 10));
        at = *next ? next + 1 : next;
    }
    return end;
}

static int load_bytes_parser(void)
{
    const struct bpf_insn insns[] = {MOV_REG(6, 1),
                                     STORE_IMM(BPF_W, 10, -4, 0),
                                     MOV_IMM(2, 0),
                                     MOV_REG(3, 10),
                                     ADD_IMM(3, -4),
                                     MOV_IMM(4, 4),
                                     CALL(BPF_FUNC_skb_load_bytes),
                                     JUMP_IMM(BPF_JEQ, 0, 0, 2),
                                     MOV_IMM(0, 0),
                                     EXIT(),
                                     LOAD(BPF_W, 0, 10, -4),
                                     TO_NETWORK_ORDER(0, 32),
                                     ADD_IMM(0, 4),
                                     EXIT()};
    int program = load(BPF_PROG_TYPE_SOCKET_FILTER, insns, LENGTH_OF(insns));
    if (program < 0)
        die("loading a parser with skb_load_bytes");
    return program;
}

static void one_segment(void)
{
    static const char *const list[] = {"3,3,3", "4,4,4,4,4,4,4,4", "1,2", "2,1", "5,9,2", "2,9,5", "9,2,5"};
    char bytes[256];
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        struct scene s = scene(SOCK_DGRAM);
        send_bytes(s.tcp.peer, bytes, put_all(bytes, list[i]));
        const char *got = drain(s.k);
        fact(list[i], "%s SO_ERROR %s", got, socket_error(s.tcp.near));
        struct scene t = scene_with(SOCK_DGRAM, load_bytes_parser());
        send_bytes(t.tcp.peer, bytes, put_all(bytes, list[i]));
        got = drain(t.k);
        fact(text("%s by skb_load_bytes", list[i]), "%s SO_ERROR %s", got, socket_error(t.tcp.near));
    }
}

static void own_segments(void)
{
    struct scene s = scene(SOCK_DGRAM);
    char bytes[256];
    static const char *const list[] = {"5", "9", "2", "0", "100"};
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        send_bytes(s.tcp.peer, bytes, put_all(bytes, list[i]));
        settle();
    }
    fact("one after another", "%s", drain(s.k));
    char big[400], back[400];
    int whole = 0;
    for (size_t n = 0; n < 60; n++) {
        size_t length = put_message(big, (char)('A' + n % 26), n * 5);
        send_bytes(s.tcp.peer, big, length);
        polled_for(s.k, POLLIN, 2000);
        whole += recv(s.k, back, sizeof back, 0) == (ssize_t)length && !memcmp(big, back, length);
    }
    fact("60 of growing size", "%d", whole);
}

static void split(void)
{
    char bytes[256];
    struct scene s = scene(SOCK_DGRAM);
    size_t end = put_all(bytes, "5,9");
    for (size_t i = 0; i < end; i++) {
        send_bytes(s.tcp.peer, bytes + i, 1);
        settle();
    }
    fact("byte by byte", "%s", drain(s.k));
    end = put_all(bytes, "90");
    for (size_t i = 0; i < end; i++)
        send_bytes(s.tcp.peer, bytes + i, 1);
    fact("byte by byte without a pause", "%s", drain(s.k));
    static const struct {
        const char *sizes;
        size_t cut;
    } cuts[] = {{"6,6,6", 12}, {"6,6,6", 16}, {"6,6,6", 10}, {"2,9", 8}, {"2,9", 12}, {"9", 2}, {"9", 4}, {"9", 6}};
    for (size_t i = 0; i < LENGTH_OF(cuts); i++) {
        struct scene t = scene(SOCK_DGRAM);
        const char *name = text("%s cut at %zu", cuts[i].sizes, cuts[i].cut);
        end = put_all(bytes, cuts[i].sizes);
        send_bytes(t.tcp.peer, bytes, cuts[i].cut);
        fact(name, "%s", drain(t.k));
        send_bytes(t.tcp.peer, bytes + cuts[i].cut, end - cuts[i].cut);
        const char *got = drain(t.k);
        fact(text("%s, the rest", name), "%s SO_ERROR %s", got, socket_error(t.tcp.near));
    }
}

static void large(void)
{
    static const size_t sizes[] = {1000, 20667, 40334, 60000};
    struct scene s = scene(SOCK_DGRAM);
    for (size_t i = 0; i < LENGTH_OF(sizes); i++) {
        char *message = malloc(sizes[i] + 4);
        size_t length = put_message(message, 'L', sizes[i]), at = 0;
        for (size_t n; at < length; at += n) {
            n = length - at < 10000 ? length - at : 10000;
            send_bytes(s.tcp.peer, message + at, n);
        }
        fact(text("%zu bytes", sizes[i]), "%s", drain(s.k));
        free(message);
    }
    fact("SO_ERROR", "%s", socket_error(s.tcp.near));
}

/* Messages of a size near the TCP socket's receive buffer; what the kernel does with the largest is not steady. */
static void near_the_limit(void)
{
    enum { buffer = 65536 };
    static const int percents[] = {25, 50};
    for (size_t i = 0; i < LENGTH_OF(percents); i++) {
        struct scene s = {.k = kcm(SOCK_DGRAM), .tcp = tcp_pair_with(buffer / 2, 0)};
        size_t length = (size_t)(option(s.tcp.near, SOL_SOCKET, SO_RCVBUF) / 100 * percents[i]);
        attach(s.k, s.tcp.near, parser_be32());
        int whole = 0;
        char *message = malloc(length), *back = malloc(length);
        put_message(message, 'n', length - 4);
        for (int n = 0; n < 4; n++) {
            if (send(s.tcp.peer, message, length, MSG_DONTWAIT) != (ssize_t)length)
                break;
            polled_for(s.k, POLLIN, 2000);
            whole += recv(s.k, back, length, 0) == (ssize_t)length && !memcmp(message, back, length);
        }
        fact(text("%d percent", percents[i]), "%d of 4, SO_ERROR %s", whole, socket_error(s.tcp.near));
        free(message);
        free(back);
    }
}

static void two_muxes(void)
{
    int left = kcm(SOCK_DGRAM), right = kcm(SOCK_DGRAM), program = parser_be32();
    struct tcp tcp = tcp_pair();
    attach(left, tcp.near, program);
    attach(right, tcp.peer, program);
    char bytes[64];
    struct iovec parts[3];
    struct mmsghdr headers[3];
    memset(headers, 0, sizeof headers);
    /* Of one size: the kernel may see them in one segment. */
    static const size_t sizes[] = {5, 5, 5};
    size_t at = 0;
    for (int i = 0; i < 3; i++) {
        parts[i].iov_base = bytes + at;
        parts[i].iov_len = put_message(bytes + at, (char)('a' + i), sizes[i]);
        at += parts[i].iov_len;
        headers[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    for (int i = 0; i < 3; i++)
        send(left, parts[i].iov_base, parts[i].iov_len, 0);
    fact("three sends", "%s", drain(right));
    fact("sendmmsg", "%d", sendmmsg(right, headers, 3, 0));
    fact("sendmmsg received", "%s", drain(left));
}

static const struct test_case cases[] = {{"one_segment", one_segment},
                                         {"segments", own_segments},
                                         {"split", split},
                                         {"large", large},
                                         {"near_limit", near_the_limit},
                                         {"kcm_to_kcm", two_muxes},
                                         {0}};
const struct group group_cut = {"cut", cases};
