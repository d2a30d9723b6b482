/* The texts of /proc/net/kcm and /proc/net/kcm_stats. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const tables = "/proc/net/kcm", *const sums = "/proc/net/kcm_stats";

static char *content(const char *path)
{
    static char all[16384];
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, all, sizeof all - 1);
    if (length < 0)
        snprintf(all, sizeof all, "%s\n", error_name(errno));
    else
        all[length] = 0;
    close(fd);
    return all;
}

/* A line a fact. Memory depends on the kernel's build and the machine: a number of it is shown as M. */
static void lines(const char *name, const char *path)
{
    int number = 0;
    char *rest, *line = strtok_r(content(path), "\n", &rest);
    for (; line; line = strtok_r(NULL, "\n", &rest)) {
        static const size_t memory = 80, status = 89;
        int object = strstr(line, "   kcm-") == line || strstr(line, "   psock-") == line;
        if (object && strlen(line) > status && line[memory] != '0' && line[memory] != '-') {
            size_t digits = strspn(line + memory, "0123456789");
            memset(line + memory, ' ', digits);
            line[memory] = 'M';
        }
        fact(text("%s, line %d", name, number++), "%s|", line);
    }
}

/* Whatever earlier cases had must be gone first. */
static void wait_for_none(void)
{
    for (int n = 0; n < 100 && !strstr(content(tables), "(0 MUX)"); n++)
        usleep(20000);
}

static void formats(void)
{
    struct stat status;
    wait_for_none();
    lines("none", tables);
    stat(tables, &status);
    fact("mode", "%o", status.st_mode);
    stat(sums, &status);
    fact("mode of kcm_stats", "%o", status.st_mode);
    int first = kcm(SOCK_DGRAM), second = clone_of(first), program = parser_be32();
    lines("two sockets", tables);
    struct tcp a = tcp_pair(), b = tcp_pair();
    attach(first, a.near, program);
    attach(first, b.near, program);
    lines("two attached", tables);
    recv_disable(second, 1); /* so that it is known who gets the messages */
    lines("second disabled", tables);
    send_message(a.peer, 'x', 1);
    send_message(b.peer, 'y', 3);
    settle();
    lines("messages queued", tables);
    drain(first);
    send_bytes(a.peer, "\0\0\0\144abc", 7);
    settle();
    send_bytes(a.peer, "def", 3);
    settle();
    send(first, "hello", 5, 0);
    send(first, "world!", 6, 0);
    send(second, "12345", 5, MSG_BATCH);
    settle();
    lines("parts and a batch", tables);
    recv_disable(first, 1);
    send_message(b.peer, 'z', 2);
    settle();
    lines("both disabled", tables);
    close(b.peer);
    settle();
    send(first, "gone", 4, MSG_NOSIGNAL);
    send(first, "gone", 4, MSG_NOSIGNAL);
    settle();
    lines("a dead peer", tables);
    unattach(first, a.near);
    close(second);
    lines("unattached and closed", tables);
    int other = kcm(SOCK_SEQPACKET);
    send(other, "waits", 5, MSG_EOR);
    lines("a second mux", tables);
}

static void other_states(void)
{
    wait_for_none();
    int k = kcm(SOCK_DGRAM);
    struct tcp a = tcp_pair();
    attach(k, a.near, parser_verbatim());
    send_bytes(a.peer, "\xff\xff\xff\xfbxx", 6);
    settle();
    lines("parser's error", tables);
    send(k, "open", 4, MSG_MORE);
    lines("an open message", tables);
    struct tcp narrow = tcp_pair_with(8192, 8192);
    int other = kcm(SOCK_DGRAM);
    attach(other, narrow.near, parser_be32());
    char *bulk = calloc(1, 1 << 20);
    send(other, bulk, 1 << 20, MSG_DONTWAIT);
    char *all = content(tables);
    fact("stalled, reserved", "%d", strstr(all, "Rsvd-0 ") != NULL && strstr(all, "Psck-0 ") != NULL);
    free(bulk);
}

/* Sums count since the start of the machine: only their form, and what one thing adds. */
static void statistics(void)
{
    char before[4][512], *rest;
    wait_for_none();
    int n = 0;
    for (char *line = strtok_r(content(sums), "\n", &rest); line && n < 4; line = strtok_r(NULL, "\n", &rest))
        snprintf(before[n++], sizeof before[0], "%s", line);
    for (int i = 0; i < n; i += 2)
        fact(text("header %d", i / 2), "%s|", before[i]);
    struct scene s = scene(SOCK_DGRAM);
    struct tcp other = tcp_pair();
    attach(s.k, other.near, parser_verbatim());
    send_message(s.tcp.peer, 'a', 6);
    settle();
    send_message(s.tcp.peer, 'b', 2);
    settle();
    drain(s.k);
    send(s.k, "hello", 5, 0);
    send(s.k, "again", 5, 0);
    send_bytes(other.peer, "\xff\xff\xff\xfbxx", 6);
    settle();
    unattach(s.k, s.tcp.near);
    char *line = strtok_r(content(sums), "\n", &rest);
    for (int i = 0; line && i < n; i++, line = strtok_r(NULL, "\n", &rest)) {
        if (i % 2 == 0)
            continue;
        char added[512] = "", *old = before[i], *new = line;
        long was, now;
        for (was = strtol(old, &old, 10), now = strtol(new, &new, 10);;
             was = strtol(old, &old, 10), now = strtol(new, &new, 10)) {
            strcat(added, text(" %ld", now - was));
            if (!strpbrk(new, "0123456789") || strlen(added) > 400)
                break;
        }
        fact(text("added to line %d", i), "%s", added + 1);
        fact(text("form of line %d", i), "%zu columns start %zu", strlen(line), strspn(line, " "));
    }
}

static const struct test_case cases[] = {
    {"formats", formats}, {"states", other_states}, {"statistics", statistics}, {0}};
const struct group group_proc = {"proc", cases};
