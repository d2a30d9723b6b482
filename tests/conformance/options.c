/* Socket options of KCM sockets. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define NAMED(name)                                                                                                    \
    {                                                                                                                  \
#name, name                                                                                                    \
    }
struct named {
    const char *name;
    int value;
};

static void defaults(void)
{
    static const struct named list[] = {
        NAMED(SO_TYPE),     NAMED(SO_DOMAIN),   NAMED(SO_PROTOCOL),  NAMED(SO_ERROR),     NAMED(SO_ACCEPTCONN),
        NAMED(SO_RCVLOWAT), NAMED(SO_SNDLOWAT), NAMED(SO_REUSEADDR), NAMED(SO_KEEPALIVE), NAMED(SO_BROADCAST),
        NAMED(SO_PRIORITY), NAMED(SO_MARK),     NAMED(SO_OOBINLINE)};
    for (int i = 0; i < 2; i++) {
        int k = kcm(types[i]), copy = clone_of(k);
        for (size_t n = 0; n < LENGTH_OF(list); n++) {
            fact(text("%s %s", type_name(types[i]), list[n].name), "%s, of a clone %s",
                 result(option(k, SOL_SOCKET, list[n].value)), result(option(copy, SOL_SOCKET, list[n].value)));
        }
    }
}

static int setting(const char *name)
{
    FILE *file = fopen(text("/proc/sys/net/core/%s", name), "r");
    int value = -1;
    if (!file || fscanf(file, "%d", &value) != 1)
        die("reading a setting");
    fclose(file);
    return value;
}

/* Sizes that come from the machine's settings are shown by their names. */
static const char *size_of(int k, int name, int asked)
{
    const char *way = name == SO_RCVBUF ? "rmem" : "wmem";
    int size = option(k, SOL_SOCKET, name);
    if (size == setting(text("%s_%s", way, asked ? "max" : "default")) * (asked ? 2 : 1))
        return text("%s%s_%s", asked ? "2 x " : "", way, asked ? "max" : "default");
    return result(size);
}

static void buffers(void)
{
    int k = kcm(SOCK_DGRAM);
    fact("defaults", "SO_RCVBUF %s SO_SNDBUF %s", size_of(k, SO_RCVBUF, 0), size_of(k, SO_SNDBUF, 0));
    static const int sizes[] = {4096, 1, 0, -1, 100000, 1 << 30};
    for (size_t i = 0; i < LENGTH_OF(sizes); i++) {
        fact(text("SO_RCVBUF %d", sizes[i]), "%s reads %s", result(set_option(k, SOL_SOCKET, SO_RCVBUF, sizes[i])),
             size_of(k, SO_RCVBUF, 1));
        fact(text("SO_SNDBUF %d", sizes[i]), "%s reads %s", result(set_option(k, SOL_SOCKET, SO_SNDBUF, sizes[i])),
             size_of(k, SO_SNDBUF, 1));
    }
    int copy = clone_of(k);
    fact("clone", "SO_RCVBUF %s SO_SNDBUF %s", size_of(copy, SO_RCVBUF, 0), size_of(copy, SO_SNDBUF, 0));
    fact("SO_RCVLOWAT 5", "%s reads %s", result(set_option(k, SOL_SOCKET, SO_RCVLOWAT, 5)),
         result(option(k, SOL_SOCKET, SO_RCVLOWAT)));
    fact("SO_SNDLOWAT 5", "%s", result(set_option(k, SOL_SOCKET, SO_SNDLOWAT, 5)));
}

static void times(void)
{
    static const struct named list[] = {NAMED(SO_RCVTIMEO), NAMED(SO_SNDTIMEO)};
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        int k = kcm(SOCK_DGRAM), name = list[i].value;
        struct timeval time = {.tv_sec = 3, .tv_usec = 500000};
        socklen_t length = sizeof time;
        fact(text("%s set", list[i].name), "%s", result(setsockopt(k, SOL_SOCKET, name, &time, sizeof time)));
        memset(&time, 0, sizeof time);
        fact(text("%s get", list[i].name), "%s %ld.%06ld length %u",
             result(getsockopt(k, SOL_SOCKET, name, &time, &length)), (long)time.tv_sec, (long)time.tv_usec, length);
        fact(text("%s short", list[i].name), "%s", result(setsockopt(k, SOL_SOCKET, name, &time, 4)));
        time.tv_usec = 1000000;
        fact(text("%s bad", list[i].name), "%s", result(setsockopt(k, SOL_SOCKET, name, &time, sizeof time)));
        int copy = clone_of(k);
        getsockopt(copy, SOL_SOCKET, name, &time, &length);
        fact(text("%s clone", list[i].name), "%ld", (long)time.tv_sec);
    }
}

static void receive_timeout(void)
{
    int k = socket(AF_KCM, SOCK_DGRAM, 0);
    char byte;
    limit_time(k, SO_RCVTIMEO, 60);
    long before = milliseconds();
    ssize_t got = recv(k, &byte, 1, 0);
    fact("recv", "%s", result(got));
    long took = milliseconds() - before;
    fact("waited", "%d", took >= 50);
    fact("read", "%s", result(read(k, &byte, 1)));
    fact("recv of nothing", "%s", result(recv(k, &byte, 0, 0)));
    fact("read of nothing", "%s", result(read(k, &byte, 0)));
}

static void kcm_level(void)
{
    int k = kcm(SOCK_DGRAM), value = 7;
    unsigned char bytes[8];
    fact("get", "%s", result(option(k, SOL_KCM, KCM_RECV_DISABLE)));
    fact("get unknown", "0 %s, 2 %s", result(option(k, SOL_KCM, 0)), result(option(k, SOL_KCM, 2)));
    fact("set unknown", "0 %s, 2 %s", result(set_option(k, SOL_KCM, 0, 1)), result(set_option(k, SOL_KCM, 2, 1)));
    for (socklen_t length = 0; length < 9; length += length == 4 ? 4 : 1) {
        long wide = 1;
        fact(text("set length %u", length), "%s", result(setsockopt(k, SOL_KCM, KCM_RECV_DISABLE, &wide, length)));
    }
    fact("set null", "%s", result(setsockopt(k, SOL_KCM, KCM_RECV_DISABLE, NULL, 4)));
    fact("set null, length 0", "%s", result(setsockopt(k, SOL_KCM, KCM_RECV_DISABLE, NULL, 0)));
    fact("set length -1", "%s", result(setsockopt(k, SOL_KCM, KCM_RECV_DISABLE, &value, (socklen_t)-1)));
    fact("set unknown, length 3", "%s", result(setsockopt(k, SOL_KCM, 2, &value, 3)));
    static const int values[] = {7, 0, -1, 256, 0};
    for (size_t i = 0; i < LENGTH_OF(values); i++) {
        const char *set = result(recv_disable(k, values[i]));
        fact(text("set %d, step %zu", values[i], i), "%s reads %s", set, result(option(k, SOL_KCM, KCM_RECV_DISABLE)));
    }
    recv_disable(k, 1);
    for (int length = -1; length < 9; length += 3) {
        socklen_t size = (socklen_t)length;
        memset(bytes, 0xee, sizeof bytes);
        const char *got = result(getsockopt(k, SOL_KCM, KCM_RECV_DISABLE, bytes, &size));
        fact(text("get length %d", length), "%s length %d %s", got, (int)size, quoted(bytes, sizeof bytes));
    }
    socklen_t size = 4;
    fact("get null", "%s", result(getsockopt(k, SOL_KCM, KCM_RECV_DISABLE, NULL, &size)));
    fact("get null length", "%s", result(getsockopt(k, SOL_KCM, KCM_RECV_DISABLE, bytes, NULL)));
    fact("clone", "%s", result(option(clone_of(k), SOL_KCM, KCM_RECV_DISABLE)));
    fact("on TCP", "%s", result(recv_disable(tcp_pair().near, 1)));
}

static void other_levels(void)
{
    static const struct named list[] = {NAMED(IPPROTO_TCP), NAMED(IPPROTO_IP), NAMED(IPPROTO_IPV6), {"9999", 9999}};
    int k = kcm(SOCK_DGRAM);
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        fact(list[i].name, "set %s get %s", result(set_option(k, list[i].value, 1, 1)),
             result(option(k, list[i].value, 1)));
    }
}

/* Which options of SOL_SOCKET exist here is the kernel's own affair: only those that every kernel since 4.6 has. */
static void socket_level(void)
{
    static const struct named list[] = {NAMED(SO_DEBUG),        NAMED(SO_REUSEADDR),   NAMED(SO_TYPE),
                                        NAMED(SO_ERROR),        NAMED(SO_DONTROUTE),   NAMED(SO_BROADCAST),
                                        NAMED(SO_KEEPALIVE),    NAMED(SO_OOBINLINE),   NAMED(SO_NO_CHECK),
                                        NAMED(SO_PRIORITY),     NAMED(SO_PASSCRED),    NAMED(SO_TIMESTAMP),
                                        NAMED(SO_ACCEPTCONN),   NAMED(SO_PROTOCOL),    NAMED(SO_DOMAIN),
                                        NAMED(SO_RXQ_OVFL),     NAMED(SO_LOCK_FILTER), NAMED(SO_SELECT_ERR_QUEUE),
                                        NAMED(SO_INCOMING_CPU), NAMED(SO_ZEROCOPY),    {"option 999", 999}};
    int k = kcm(SOCK_DGRAM);
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        fact(list[i].name, "get %s set %s",
             option(k, SOL_SOCKET, list[i].value) == -1 && errno ? text("%s", error_name(errno)) : "ok",
             result(set_option(k, SOL_SOCKET, list[i].value, 0)));
        errno = 0;
    }
    fact("set length 2", "%s", result(setsockopt(k, SOL_SOCKET, SO_RCVBUF, &k, 2)));
    struct linger linger = {.l_onoff = 1, .l_linger = 5};
    socklen_t length = sizeof linger;
    fact("SO_LINGER", "%s", result(setsockopt(k, SOL_SOCKET, SO_LINGER, &linger, length)));
    memset(&linger, 0, sizeof linger);
    fact("SO_LINGER reads", "%s %d %d", result(getsockopt(k, SOL_SOCKET, SO_LINGER, &linger, &length)), linger.l_onoff,
         linger.l_linger);
    fact("SO_PEERCRED length", "%s", result(getsockopt(k, SOL_SOCKET, SO_PEERCRED, &linger, &length)));
    char name[16];
    length = sizeof name;
    fact("SO_PEERNAME", "%s", result(getsockopt(k, SOL_SOCKET, SO_PEERNAME, name, &length)));
    uint64_t cookie = 0;
    length = sizeof cookie;
    fact("SO_COOKIE", "%s nonzero %d", result(getsockopt(k, SOL_SOCKET, SO_COOKIE, &cookie, &length)), cookie != 0);
}

static const struct test_case cases[] = {
    {"defaults", defaults}, {"buffers", buffers},     {"times", times},         {"timeout", receive_timeout},
    {"kcm", kcm_level},     {"levels", other_levels}, {"socket", socket_level}, {0}};
const struct group group_options = {"options", cases};
