/* Sending: where messages end, and when they leave. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

/* Sends a letter per byte, the next ones of the alphabet, and says what the peer has then. */
static void step(struct scene s, const char *name, char first, size_t length, int flags)
{
    char bytes[8];
    for (size_t i = 0; i < length; i++)
        bytes[i] = (char)(first + (char)i);
    const char *sent = result(send(s.k, bytes, length, flags));
    fact(name, "%s peer %s", sent, stream(s.tcp.peer));
}

static void ends(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        step(s, text("%s 1 plain", type), 'a', 3, 0);
        step(s, text("%s 2 eor", type), 'd', 2, MSG_EOR);
        step(s, text("%s 3 more", type), 'f', 2, MSG_MORE);
        step(s, text("%s 4 eor and more", type), 'h', 1, MSG_EOR | MSG_MORE);
        step(s, text("%s 5 plain", type), 'i', 1, 0);
        step(s, text("%s 6 eor", type), 'j', 1, MSG_EOR);
        const char *sent = result(write(s.k, "kl", 2));
        fact(text("%s 7 write", type), "%s peer %s", sent, stream(s.tcp.peer));
        struct iovec parts[2] = {{"m", 1}, {"no", 2}};
        sent = result(writev(s.k, parts, 2));
        fact(text("%s 8 writev", type), "%s peer %s", sent, stream(s.tcp.peer));
        step(s, text("%s 9 more", type), 'p', 1, MSG_MORE);
        sent = result(write(s.k, "q", 1));
        fact(text("%s 10 then write", type), "%s peer %s", sent, stream(s.tcp.peer));
        fact(text("%s poll", type), "%s", polled(s.k));
    }
}

static void nothing(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        step(s, text("%s 1 none open", type), 'a', 0, 0);
        step(s, text("%s 2 none open, eor", type), 'a', 0, MSG_EOR);
        step(s, text("%s 3 opened", type), 'b', 2, MSG_MORE);
        step(s, text("%s 4 none, more", type), 'a', 0, MSG_MORE);
        step(s, text("%s 5 none, closing", type), 'a', 0, MSG_EOR);
        step(s, text("%s 6 batched", type), 'c', 2, MSG_BATCH | MSG_EOR);
        step(s, text("%s 7 none, closing", type), 'a', 0, MSG_EOR);
        const char *sent = result(write(s.k, "", 0));
        fact(text("%s 8 write of none", type), "%s peer %s", sent, stream(s.tcp.peer));
        sent = result(writev(s.k, NULL, 0));
        fact(text("%s 9 writev of none", type), "%s peer %s", sent, stream(s.tcp.peer));
        step(s, text("%s 10 plain", type), 'z', 1, 0);
    }
}

static void batches(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        step(s, text("%s 1 batch", type), 'a', 2, MSG_BATCH | MSG_EOR);
        step(s, text("%s 2 batch", type), 'c', 2, MSG_BATCH | MSG_EOR);
        fact(text("%s 3 poll", type), "%s", polled(s.k));
        step(s, text("%s 4 open", type), 'e', 1, MSG_MORE);
        step(s, text("%s 5 batch closes", type), 'f', 1, MSG_BATCH | MSG_EOR);
        step(s, text("%s 6 flush", type), 'g', 1, MSG_EOR);
        step(s, text("%s 7 batch without eor", type), 'h', 1, MSG_BATCH);
        step(s, text("%s 8 more and batch", type), 'i', 1, MSG_BATCH | MSG_MORE);
        step(s, text("%s 9 eor", type), 'j', 1, MSG_EOR);
        step(s, text("%s 10 batch", type), 'k', 1, MSG_BATCH | MSG_EOR);
        int copy = clone_of(s.k);
        const char *sent = result(send(copy, "C", 1, MSG_EOR));
        fact(text("%s 11 by a clone", type), "%s peer %s", sent, stream(s.tcp.peer));
        close(s.k);
        sent = result(send(copy, "D", 1, MSG_EOR));
        fact(text("%s 12 closed with a batch", type), "%s peer %s", sent, stream(s.tcp.peer));
    }
    /* What waits in a batch is bounded by SO_SNDBUF like any queue. */
    struct scene s = scene(SOCK_DGRAM);
    static char big[100000];
    int taken = 0;
    while (taken < 20 && send(s.k, big, sizeof big, MSG_BATCH | MSG_DONTWAIT) == (ssize_t)sizeof big)
        taken++;
    fact("100000 bytes, batched", "%d", taken);
}

static void open_messages(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        int copy = clone_of(s.k);
        step(s, text("%s 1 open", type), 'a', 2, MSG_MORE);
        const char *sent = result(send(copy, "X", 1, MSG_EOR));
        fact(text("%s 2 a clone sends", type), "%s peer %s", sent, stream(s.tcp.peer));
        step(s, text("%s 3 closed", type), 'c', 1, MSG_EOR);
        step(s, text("%s 4 open", type), 'd', 2, MSG_MORE);
        close(s.k);
        fact(text("%s 5 closed while open", type), "%s", stream(s.tcp.peer));
        sent = result(send(copy, "Y", 1, MSG_EOR));
        fact(text("%s 6 the clone sends", type), "%s peer %s tcp %s", sent, stream(s.tcp.peer), polled(s.tcp.near));
    }
    /* An open message needs no attached socket, and does not move when one comes. */
    int k = kcm(SOCK_DGRAM);
    struct tcp tcp = tcp_pair();
    fact("unattached 1 open", "%s", result(send(k, "ab", 2, MSG_MORE)));
    attach(k, tcp.near, parser_be32());
    fact("unattached 2 attached", "%s", stream(tcp.peer));
    send(k, "c", 1, 0);
    fact("unattached 3 closed", "%s", stream(tcp.peer));
}

static void many_at_once(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        static const int flags[] = {0, MSG_EOR, MSG_EOR | MSG_BATCH, MSG_MORE};
        static const char *const names[] = {"plain", "eor", "eor and batch", "more"};
        for (size_t f = 0; f < LENGTH_OF(flags); f++) {
            struct scene s = scene(types[i]);
            struct iovec parts[3] = {{"aa", 2}, {"bbb", 3}, {"c", 1}};
            struct mmsghdr headers[3];
            memset(headers, 0, sizeof headers);
            for (int n = 0; n < 3; n++)
                headers[n].msg_hdr = (struct msghdr){.msg_iov = &parts[n], .msg_iovlen = 1};
            const char *sent = result(sendmmsg(s.k, headers, 3, flags[f]));
            fact(text("%s %s", type, names[f]), "%s lengths %u %u %u peer %s", sent, headers[0].msg_len,
                 headers[1].msg_len, headers[2].msg_len, stream(s.tcp.peer));
            step(s, text("%s %s, then one", type, names[f]), 'z', 1, MSG_EOR);
            fact(text("%s %s, none", type, names[f]), "%s", result(sendmmsg(s.k, headers, 0, 0)));
        }
    }
}

static void vectors(void)
{
    struct scene s = scene(SOCK_DGRAM);
    static struct iovec many[1025];
    for (int i = 0; i < 1025; i++)
        many[i] = (struct iovec){(char *)"abcdefghijklmnopqrstuvwxyz" + i % 26, 1};
    static const size_t counts[] = {20, 1024, 1025};
    for (size_t n = 0; n < LENGTH_OF(counts); n++) {
        struct msghdr header = {.msg_iov = many, .msg_iovlen = counts[n]};
        const char *sent = result(sendmsg(s.k, &header, 0));
        fact(text("sendmsg of %zu", counts[n]), "%s peer %s", sent, stream(s.tcp.peer));
    }
    const char *sent = result(writev(s.k, many, 1025));
    fact("writev of 1025", "%s peer %s", sent, stream(s.tcp.peer));
    many[2].iov_len = 0;
    sent = result(writev(s.k, many, 6));
    fact("one of 6 empty", "%s peer %s", sent, stream(s.tcp.peer));
    for (int i = 0; i < 40; i++)
        send(s.k, &"0123456789"[i % 10], 1, MSG_MORE);
    send(s.k, "", 0, 0);
    fact("40 parts", "%s", stream(s.tcp.peer));
}

static void addresses(void)
{
    struct scene s = scene(SOCK_DGRAM);
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr *to = (struct sockaddr *)&address;
    fact("an address", "%s", result(sendto(s.k, "a", 1, 0, to, sizeof address)));
    fact("null with a length", "%s", result(sendto(s.k, "b", 1, 0, NULL, sizeof address)));
    fact("bad pointer", "%s", result(sendto(s.k, "c", 1, 0, (struct sockaddr *)8, sizeof address)));
    fact("length -1", "%s", result(sendto(s.k, "d", 1, 0, to, (socklen_t)-1)));
    fact("length 200", "%s", result(sendto(s.k, "e", 1, 0, to, 200)));
    fact("length 0", "%s", result(sendto(s.k, "f", 1, 0, to, 0)));
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {"g", 1};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *first = CMSG_FIRSTHDR(&header);
    first->cmsg_level = SOL_SOCKET;
    first->cmsg_type = SCM_RIGHTS;
    first->cmsg_len = CMSG_LEN(sizeof(int));
    fact("ancillary data", "%s", result(sendmsg(s.k, &header, 0)));
    header.msg_control = (void *)8;
    fact("ancillary data at a bad pointer", "%s", result(sendmsg(s.k, &header, 0)));
    fact("peer", "%s", stream(s.tcp.peer));
}

static void flags(void)
{
    static const struct {
        const char *name;
        int flags;
    } list[] = {{"oob", MSG_OOB},           {"dontroute", MSG_DONTROUTE}, {"confirm", MSG_CONFIRM},
                {"fastopen", MSG_FASTOPEN}, {"zerocopy", MSG_ZEROCOPY},   {"nosignal", MSG_NOSIGNAL},
                {"peek", MSG_PEEK},         {"unknown", 0x01000000},      {"internal 0x8000000", 0x8000000}};
    struct scene s = scene(SOCK_DGRAM);
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        const char *sent = result(send(s.k, "x", 1, list[i].flags));
        fact(list[i].name, "%s peer %s", sent, stream(s.tcp.peer));
    }
}

static void bad_pointers(void)
{
    char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(hole + 4096, 4096, PROT_NONE);
    memset(hole, 'h', 4096);
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        const char *sent = result(send(s.k, hole + 4096, 4, MSG_EOR));
        fact(text("%s all bad", type), "%s peer %s", sent, stream(s.tcp.peer));
        send(s.k, "ok", 2, MSG_EOR);
        fact(text("%s then", type), "%s", stream(s.tcp.peer));
        send(s.k, "open", 4, MSG_MORE);
        sent = result(send(s.k, hole + 4096, 4, MSG_EOR));
        fact(text("%s bad in an open message", type), "%s peer %s", sent, stream(s.tcp.peer));
        sent = result(send(s.k, "end", 3, MSG_EOR));
        fact(text("%s bad in an open message, then", type), "%s peer %s", sent, stream(s.tcp.peer));
    }
}

static void one_after_another(void)
{
    /* Each write batch goes to the next TCP socket, in the order in which they were attached. */
    struct scene s = scene(SOCK_DGRAM);
    struct tcp second = tcp_pair(), third = tcp_pair();
    attach(s.k, second.near, parser_be32());
    attach(s.k, third.near, parser_be32());
    for (char letter = 'a'; letter < 'h'; letter++) {
        send(s.k, &letter, 1, 0);
        settle();
    }
    fact("single sends", "%s %s %s", stream(s.tcp.peer), stream(second.peer), stream(third.peer));
    for (char letter = 'A'; letter < 'E'; letter++)
        send(s.k, &letter, 1, letter < 'D' ? MSG_BATCH : 0);
    fact("a batch", "%s %s %s", stream(s.tcp.peer), stream(second.peer), stream(third.peer));
    send(s.k, "1", 1, 0);
    fact("after the batch", "%s %s %s", stream(s.tcp.peer), stream(second.peer), stream(third.peer));
    int copy = clone_of(s.k);
    send(copy, "2", 1, 0);
    fact("by a clone", "%s %s %s", stream(s.tcp.peer), stream(second.peer), stream(third.peer));
    unattach(s.k, second.near);
    for (char letter = '3'; letter < '8'; letter++)
        send(s.k, &letter, 1, 0);
    fact("second unattached", "%s %s %s", stream(s.tcp.peer), stream(second.peer), stream(third.peer));
    attach(s.k, second.near, parser_be32());
    for (char letter = 'p'; letter < 'v'; letter++)
        send(s.k, &letter, 1, 0);
    fact("second attached again", "%s %s %s", stream(s.tcp.peer), stream(second.peer), stream(third.peer));
}

static const struct test_case cases[] = {{"ends", ends},
                                         {"nothing", nothing},
                                         {"batch", batches},
                                         {"open", open_messages},
                                         {"sendmmsg", many_at_once},
                                         {"vectors", vectors},
                                         {"address", addresses},
                                         {"flags", flags},
                                         {"pointers", bad_pointers},
                                         {"rotation", one_after_another},
                                         {0}};
const struct group group_send = {"send", cases};
