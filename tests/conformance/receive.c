/* Taking messages from KCM sockets. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

/* A scene with a message of 8 bytes in its socket. */
static struct scene with_message(int type, char letter)
{
    struct scene s = scene(type);
    send_message(s.tcp.peer, letter, 4);
    polled_for(s.k, POLLIN, quiet);
    return s;
}

static void sizes(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        static const size_t spaces[] = {8, 64, 7, 5, 1};
        for (size_t n = 0; n < LENGTH_OF(spaces); n++) {
            send_message(s.tcp.peer, (char)('a' + n), 4);
            const char *name = text("%s %zu of 8", type, spaces[n]);
            fact(name, "%s", receive(s.k, spaces[n], 0));
            fact(text("%s, next", name), "%s", receive(s.k, 64, 0));
            fact(text("%s, after", name), "%s", receive(s.k, 64, 0));
        }
        send_message(s.tcp.peer, 'e', 0);
        fact(text("%s empty payload", type), "%s", receive(s.k, 64, 0));
    }
}

static void in_parts(void)
{
    for (int i = 0; i < 2; i++) {
        struct scene s = with_message(types[i], 'p');
        send_message(s.tcp.peer, 'q', 4);
        settle();
        for (int n = 0; n < 5; n++)
            fact(text("%s 3 bytes, read %d", type_name(types[i]), n), "%s", receive(s.k, 3, 0));
    }
}

static void other_calls(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        char buffer[16], second[16];
        struct iovec parts[2] = {{buffer, 2}, {second, 3}};
        struct scene s = with_message(types[i], 'r');
        fact(text("%s read", type), "%s", result(read(s.k, buffer, 3)));
        fact(text("%s read, next", type), "%s", result(recv(s.k, buffer, 16, 0)));
        s = with_message(types[i], 'v');
        fact(text("%s readv", type), "%s", result(readv(s.k, parts, 2)));
        fact(text("%s readv, next", type), "%s", result(recv(s.k, buffer, 16, 0)));
        s = with_message(types[i], 'w');
        fact(text("%s recvfrom null", type), "%s", result(recvfrom(s.k, buffer, 16, 0, NULL, NULL)));
    }
}

static void nothing(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        char byte;
        struct scene s = with_message(types[i], 'n');
        struct msghdr no_parts = {0};
        fact(text("%s read of 0", type), "%s", result(read(s.k, &byte, 0)));
        fact(text("%s readv of 0", type), "%s", result(readv(s.k, NULL, 0)));
        fact(text("%s peek of 0", type), "%s", receive(s.k, 0, MSG_PEEK));
        fact(text("%s recv of 0", type), "%s", receive(s.k, 0, 0));
        fact(text("%s recv of 0, next", type), "%s", receive(s.k, 64, 0));
        send_message(s.tcp.peer, 'm', 4);
        polled_for(s.k, POLLIN, quiet);
        fact(text("%s no iovec", type), "%s %s", result(recvmsg(s.k, &no_parts, 0)),
             message_flags((unsigned)no_parts.msg_flags));
        fact(text("%s no iovec, next", type), "%s", receive(s.k, 64, 0));
    }
}

static void flags(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = with_message(types[i], 'f');
        fact(text("%s peek", type), "%s", receive(s.k, 64, MSG_PEEK));
        fact(text("%s peek of 3", type), "%s", receive(s.k, 3, MSG_PEEK));
        fact(text("%s peek and trunc of 3", type), "%s", receive(s.k, 3, MSG_PEEK | MSG_TRUNC));
        fact(text("%s still there", type), "%s", receive(s.k, 64, 0));
        s = with_message(types[i], 't');
        fact(text("%s trunc of 3", type), "%s", receive(s.k, 3, MSG_TRUNC));
        s = with_message(types[i], 'o');
        fact(text("%s oob", type), "%s", receive(s.k, 64, MSG_OOB));
        fact(text("%s oob, next", type), "%s", receive(s.k, 64, 0));
        s = with_message(types[i], 'x');
        fact(text("%s unknown flags", type), "%s", receive(s.k, 64, 0x0800000));
        s = with_message(types[i], 'e');
        fact(text("%s errqueue", type), "%s", receive(s.k, 64, MSG_ERRQUEUE));
        s = with_message(types[i], 'c');
        fact(text("%s cloexec", type), "%s", receive(s.k, 64, MSG_CMSG_CLOEXEC));
        s = with_message(types[i], 'a');
        send_message(s.tcp.peer, 'b', 4);
        settle();
        fact(text("%s waitall", type), "%s", receive(s.k, 64, MSG_WAITALL));
        fact(text("%s waitall, next", type), "%s", receive(s.k, 64, 0));
        fact(text("%s empty with peek", type), "%s", receive(s.k, 64, MSG_PEEK));
    }
}

static void names(void)
{
    struct scene s = with_message(SOCK_DGRAM, 'n');
    unsigned char name[128], control[64], buffer[64];
    struct iovec part = {buffer, sizeof buffer};
    memset(name, 0xee, sizeof name);
    struct msghdr header = {.msg_name = name,
                            .msg_namelen = sizeof name,
                            .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control,
                            .msg_controllen = sizeof control,
                            .msg_flags = 0x5555};
    fact("recvmsg", "%s namelen %u controllen %zu flags %s name %s", result(recvmsg(s.k, &header, 0)),
         header.msg_namelen, header.msg_controllen, message_flags((unsigned)header.msg_flags), quoted(name, 4));
    header.msg_namelen = sizeof name;
    header.msg_controllen = sizeof control;
    header.msg_flags = 0x5555;
    fact("recvmsg of nothing", "%s namelen %u controllen %zu flags %#x", result(recvmsg(s.k, &header, 0)),
         header.msg_namelen, header.msg_controllen, (unsigned)header.msg_flags);
    send_message(s.tcp.peer, 'm', 4);
    polled_for(s.k, POLLIN, quiet);
    socklen_t length = sizeof name;
    fact("recvfrom", "%s length %u", result(recvfrom(s.k, buffer, sizeof buffer, 0, (struct sockaddr *)name, &length)),
         length);
    set_option(s.k, SOL_SOCKET, SO_PASSCRED, 1);
    set_option(s.k, SOL_SOCKET, SO_TIMESTAMP, 1);
    send_message(s.tcp.peer, 'o', 4);
    polled_for(s.k, POLLIN, quiet);
    header.msg_controllen = sizeof control;
    fact("with SO_PASSCRED and SO_TIMESTAMP", "%s controllen %zu flags %s", result(recvmsg(s.k, &header, 0)),
         header.msg_controllen, message_flags((unsigned)header.msg_flags));
}

static void vectors(void)
{
    struct scene s = with_message(SOCK_DGRAM, 'v');
    char bytes[8], one;
    struct iovec each[8], many[1025];
    for (int i = 0; i < 8; i++)
        each[i] = (struct iovec){&bytes[i], 1};
    fact("8 of one byte", "%s %s", result(readv(s.k, each, 8)), quoted(bytes, 8));
    for (int i = 0; i < 1025; i++)
        many[i] = (struct iovec){&one, i ? 0 : 1};
    struct msghdr header = {.msg_iov = many, .msg_iovlen = 1025};
    fact("1025 iovecs", "%s", result(recvmsg(s.k, &header, 0)));
    header.msg_iovlen = 1024;
    fact("1024 iovecs", "%s", result(recvmsg(s.k, &header, 0)));
    fact("readv of 1025", "%s", result(readv(s.k, many, 1025)));
    header.msg_iov = NULL;
    header.msg_iovlen = 1;
    fact("null iovec", "%s", result(recvmsg(s.k, &header, 0)));
}

static void bad_pointers(void)
{
    char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(hole + 4096, 4096, PROT_NONE);
    struct scene s = with_message(SOCK_DGRAM, 'b');
    fact("dgram half bad", "%s", result(recv(s.k, hole + 4096 - 4, 8, 0)));
    fact("dgram half bad, next", "%s", receive(s.k, 64, 0));
    s = with_message(SOCK_SEQPACKET, 'b');
    fact("seq all bad", "%s", result(recv(s.k, hole + 4096, 8, 0)));
    fact("seq all bad, next", "%s", receive(s.k, 64, 0));
}

static void many_at_once(void)
{
    for (int t = 0; t < 2; t++) {
        const char *type = type_name(types[t]);
        struct scene s = scene(types[t]);
        char buffers[4][16];
        struct iovec parts[4];
        struct mmsghdr headers[4];
        for (int n = 0; n < 3; n++) {
            send_message(s.tcp.peer, (char)('a' + n), n == 1 ? 20 : 4);
            settle();
        }
        memset(headers, 0, sizeof headers);
        for (int i = 0; i < 4; i++) {
            parts[i] = (struct iovec){buffers[i], sizeof buffers[i]};
            headers[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
        }
        fact(text("%s count", type), "%s", result(recvmmsg(s.k, headers, 4, MSG_DONTWAIT, NULL)));
        for (int i = 0; i < 3; i++)
            fact(text("%s message %d", type, i), "%u %s %s", headers[i].msg_len,
                 message_flags((unsigned)headers[i].msg_hdr.msg_flags), quoted(buffers[i], headers[i].msg_len));
        fact(text("%s none left", type), "%s", result(recvmmsg(s.k, headers, 4, MSG_DONTWAIT, NULL)));
        fact(text("%s for none", type), "%s", result(recvmmsg(s.k, headers, 0, MSG_DONTWAIT, NULL)));
        struct timespec time = {.tv_nsec = 50000000};
        fcntl(s.k, F_SETFL, O_RDWR);
        send_message(s.tcp.peer, 'w', 4);
        fact(text("%s waitforone", type), "%s", result(recvmmsg(s.k, headers, 4, MSG_WAITFORONE, &time)));
        struct timespec bad = {.tv_nsec = 2000000000};
        fact(text("%s bad time", type), "%s", result(recvmmsg(s.k, headers, 4, MSG_DONTWAIT, &bad)));
    }
}

static void queued(void)
{
    struct scene s = scene(SOCK_DGRAM);
    for (int n = 0; n < 500; n++)
        send_message(s.tcp.peer, (char)('a' + n % 26), 20);
    int right = 0;
    char buffer[256];
    for (int n = 0; n < 500; n++) {
        polled_for(s.k, POLLIN, quiet);
        right += recv(s.k, buffer, sizeof buffer, 0) == 24 && buffer[4] == 'a' + n % 26;
    }
    fact("500 in order", "%d", right);
}

/* Messages wait in TCP, and then at the sender, when nobody takes them; nothing is lost. */
static void back_pressure(void)
{
    struct scene s = {.k = kcm(SOCK_DGRAM), .tcp = tcp_pair_with(16384, 16384)};
    set_option(s.k, SOL_SOCKET, SO_RCVBUF, 4096);
    attach(s.k, s.tcp.near, parser_constant(1004)); /* whatever the segments, the kernel cuts these right */
    char message[1004], buffer[2048];
    int sent = 0, got = 0, right = 0, stalled = 0;
    for (; sent < 5000; sent++) {
        put_message(message, (char)('a' + sent % 26), 1000);
        ssize_t done = send(s.tcp.peer, message, sizeof message, MSG_DONTWAIT);
        if (done != (ssize_t)sizeof message) {
            if (done > 0) /* cut short: the rest goes later, as one message */
                stalled = (int)done;
            break;
        }
    }
    fact("sender stalls", "%d", sent > 10 && sent < 5000);
    for (; got < sent; got++) {
        if (!strcmp(polled_for(s.k, POLLIN, 3000), "0"))
            break;
        right += recv(s.k, buffer, sizeof buffer, 0) == 1004 && buffer[4] == 'a' + got % 26;
    }
    fact("nothing lost", "%d", right == sent && got == sent);
    if (stalled)
        send_bytes(s.tcp.peer, message + stalled, sizeof message - (size_t)stalled);
    else
        send_bytes(s.tcp.peer, message, sizeof message);
    fact("flows again", "%zu", strlen(drain(s.k)));
}

static const struct test_case cases[] = {{"sizes", sizes},
                                         {"parts", in_parts},
                                         {"calls", other_calls},
                                         {"nothing", nothing},
                                         {"flags", flags},
                                         {"names", names},
                                         {"vectors", vectors},
                                         {"pointers", bad_pointers},
                                         {"recvmmsg", many_at_once},
                                         {"queued", queued},
                                         {"back_pressure", back_pressure},
                                         {0}};
const struct group group_receive = {"receive", cases};
