/* Threads and signals: sleeping calls, and what ends them. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

struct sleeper {
    int k;
    pthread_t thread;
    ssize_t got;
    int error;
    char first;
    volatile int done;
};

static void *sleep_in_recv(void *argument)
{
    struct sleeper *me = argument;
    char buffer[64];
    me->got = recv(me->k, buffer, sizeof buffer, 0);
    me->error = errno;
    me->first = me->got > 4 ? buffer[4] : '-';
    me->done = 1;
    return NULL;
}

static void start(struct sleeper *sleeper, int k)
{
    memset(sleeper, 0, sizeof *sleeper);
    sleeper->k = k;
    fcntl(k, F_SETFL, O_RDWR);
    if (pthread_create(&sleeper->thread, NULL, sleep_in_recv, sleeper))
        die("pthread_create");
}

static const char *outcome(struct sleeper *sleeper)
{
    for (long end = milliseconds() + 2 * quiet; !sleeper->done && milliseconds() < end; usleep(1000))
        ;
    if (!sleeper->done)
        return "sleeps";
    errno = sleeper->error;
    return sleeper->got < 0 ? result(sleeper->got) : text("%c(%zd)", sleeper->first, sleeper->got);
}

static void woken_by_message(void)
{
    struct scene s = scene(SOCK_DGRAM);
    struct sleeper one, two;
    start(&one, s.k);
    settle();
    start(&two, s.k);
    settle();
    send_message(s.tcp.peer, 'a', 1);
    const char *first = outcome(&one);
    fact("one message, two sleepers", "first %s second %s", first, outcome(&two));
    send_message(s.tcp.peer, 'b', 1);
    fact("another", "second %s", outcome(&two));
}

static void woken_by_clone(void)
{
    struct scene s = scene(SOCK_DGRAM);
    int copy = clone_of(s.k);
    struct sleeper one;
    start(&one, copy);
    settle();
    recv_disable(s.k, 1);
    send_message(s.tcp.peer, 'a', 1);
    fact("message to the only enabled socket", "%s", outcome(&one));
    /* Pending messages of a closed socket wake whoever sleeps on another. */
    struct scene t = scene(SOCK_DGRAM);
    send_message(t.tcp.peer, 'm', 1);
    settle();
    copy = clone_of(t.k);
    start(&one, copy);
    settle();
    close(t.k);
    fact("moved by a close", "%s", outcome(&one));
    struct scene u = scene(SOCK_DGRAM);
    send_message(u.tcp.peer, 'n', 1);
    settle();
    copy = clone_of(u.k);
    start(&one, copy);
    settle();
    recv_disable(u.k, 1);
    fact("moved by disabling", "%s", outcome(&one));
}

static void not_woken(void)
{
    struct scene s = scene(SOCK_DGRAM);
    struct sleeper one;
    start(&one, s.k);
    settle();
    recv_disable(s.k, 1);
    fact("disabled", "%s", outcome(&one));
    send_message(s.tcp.peer, 'a', 1);
    fact("disabled, a message", "%s", outcome(&one));
    recv_disable(s.k, 0);
    fact("enabled", "%s", outcome(&one));
    struct scene t = scene(SOCK_DGRAM);
    start(&one, t.k);
    settle();
    close(t.tcp.peer);
    fact("FIN", "%s", outcome(&one));
    unattach(t.k, t.tcp.near);
    fact("unattached", "%s", outcome(&one));
    struct tcp other = tcp_pair();
    attach(t.k, other.near, parser_be32());
    send_message(other.peer, 'b', 1);
    fact("another TCP socket", "%s", outcome(&one));
}

static void closed_meanwhile(void)
{
    struct scene s = scene(SOCK_DGRAM);
    struct sleeper one;
    start(&one, s.k);
    settle();
    close(s.k);
    fact("closed", "%s", outcome(&one));
    send_message(s.tcp.peer, 'a', 1);
    fact("closed, a message", "%s", outcome(&one));
    settle();
    fact("tcp then", "%s peer %s", polled(s.tcp.near), stream(s.tcp.peer));
    struct scene t = scene(SOCK_DGRAM);
    start(&one, t.k);
    settle();
    int null = open("/dev/null", O_RDWR);
    dup2(null, t.k);
    send_message(t.tcp.peer, 'b', 1);
    fact("number taken by another file", "%s", outcome(&one));
}

static void *sleep_in_send(void *argument)
{
    struct sleeper *me = argument;
    me->got = send(me->k, "slept", 5, MSG_NOSIGNAL);
    me->first = 's';
    me->error = errno;
    me->done = 1;
    return NULL;
}

/* A sender that sleeps for room: what wakes it. */
static void sleeping_sender(void)
{
    static char bulk[1 << 20];
    struct sleeper one = {0};
    struct scene s = scene(SOCK_DGRAM);
    unattach(s.k, s.tcp.near);
    send(s.k, bulk, sizeof bulk, 0);
    fcntl(s.k, F_SETFL, O_RDWR);
    one.k = s.k;
    pthread_create(&one.thread, NULL, sleep_in_send, &one);
    settle();
    fact("unattached and full", "%s", one.done ? "done" : "sleeps");
    recv_disable(s.k, 1);
    int copy = clone_of(s.k);
    send(copy, "by", 2, 0);
    fact("a clone sent", "%s", one.done ? "done" : "sleeps");
    attach(copy, s.tcp.near, parser_be32());
    static char got[2 << 20];
    size_t length = swallow(s.tcp.peer, got, sizeof got);
    fact("attached", "%s, peer %zu", outcome(&one), length);
}

/* A reader of the TCP socket that slept there before it was attached. */
static void raw_reader(void)
{
    struct sleeper one;
    struct tcp tcp = tcp_pair();
    int k = kcm(SOCK_DGRAM);
    start(&one, tcp.near);
    settle();
    attach(k, tcp.near, parser_be32());
    send_message(tcp.peer, 'a', 1);
    fact("a message", "raw %s kcm %s", outcome(&one), drain(k));
    send_bytes(tcp.peer, "\0\0\0\7b", 5);
    settle();
    send_bytes(tcp.peer, "cc", 2);
    fact("parts", "raw %s kcm %s", outcome(&one), drain(k));
    close(tcp.peer);
    fact("FIN", "raw %s", outcome(&one));
}

static void nothing(int number)
{
    (void)number;
}

static void interrupted(void)
{
    struct scene s = scene(SOCK_DGRAM);
    char buffer[64];
    fcntl(s.k, F_SETFL, O_RDWR);
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGUSR1, &action, NULL);
    pid_t parent = getpid(), pid = child();
    if (pid == 0) {
        settle();
        kill(parent, SIGUSR1);
        _exit(0);
    }
    fact("recv", "%s", result(recv(s.k, buffer, sizeof buffer, 0)));
    child_ended(pid, 1000);
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    pid = child();
    if (pid == 0) {
        settle();
        kill(parent, SIGUSR1);
        settle();
        send_message(s.tcp.peer, 'r', 3);
        _exit(0);
    }
    fact("recv with SA_RESTART", "%s", result(recv(s.k, buffer, sizeof buffer, 0)));
    child_ended(pid, 1000);
    limit_time(s.k, SO_RCVTIMEO, 2000);
    pid = child();
    if (pid == 0) {
        settle();
        kill(parent, SIGUSR1);
        _exit(0);
    }
    fact("recv with SA_RESTART and SO_RCVTIMEO", "%s", result(recv(s.k, buffer, sizeof buffer, 0)));
    child_ended(pid, 1000);
}

struct sender {
    int k;
    char letter;
};

static void *send_parts(void *argument)
{
    struct sender *me = argument;
    char part[100];
    memset(part, me->letter, sizeof part);
    for (int n = 0; n < 50; n++)
        if (send(me->k, part, sizeof part, 0) != (ssize_t)sizeof part)
            return me;
    return NULL;
}

/* Messages of several threads, through one socket or several, never mix. */
static void many_senders(void)
{
    enum { threads = 4 };
    for (int cloned = 0; cloned < 2; cloned++) {
        struct scene s = scene(SOCK_DGRAM);
        struct sender senders[threads];
        pthread_t ids[threads];
        fcntl(s.k, F_SETFL, O_RDWR);
        for (int i = 0; i < threads; i++) {
            senders[i] = (struct sender){cloned ? clone_of(s.k) : s.k, (char)('a' + i)};
            fcntl(senders[i].k, F_SETFL, O_RDWR);
            pthread_create(&ids[i], NULL, send_parts, &senders[i]);
        }
        static char got[threads * 50 * 100 + 1];
        size_t length = swallow(s.tcp.peer, got, sizeof got);
        int whole = 1, failed = 0;
        for (size_t at = 0; at + 100 <= length; at += 100)
            for (size_t i = 1; i < 100; i++)
                whole &= got[at + i] == got[at];
        for (int i = 0; i < threads; i++) {
            void *answer;
            pthread_join(ids[i], &answer);
            failed |= answer != NULL;
        }
        fact(cloned ? "through clones" : "through one socket", "%zu bytes whole %d failed %d", length, whole, failed);
    }
}

static void *receive_some(void *argument)
{
    struct sleeper *me = argument;
    char buffer[256];
    while (recv(me->k, buffer, sizeof buffer, 0) > 0)
        __atomic_add_fetch(&me->got, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void many_receivers(void)
{
    enum { threads = 4, messages = 200 };
    struct scene s = scene(SOCK_DGRAM);
    struct sleeper all[threads];
    long sum = 0;
    for (int i = 0; i < threads; i++) {
        all[i] = (struct sleeper){.k = i ? clone_of(s.k) : s.k};
        fcntl(all[i].k, F_SETFL, O_RDWR);
        limit_time(all[i].k, SO_RCVTIMEO, 4 * quiet);
        pthread_create(&all[i].thread, NULL, receive_some, &all[i]);
    }
    for (int n = 0; n < messages; n++)
        send_message(s.tcp.peer, 'm', 20);
    for (int i = 0; i < threads; i++) {
        pthread_join(all[i].thread, NULL);
        sum += all[i].got;
    }
    fact("received", "%ld", sum);
}

static const struct test_case cases[] = {{"message", woken_by_message}, {"clones", woken_by_clone},
                                         {"not_woken", not_woken},      {"close", closed_meanwhile},
                                         {"sender", sleeping_sender},   {"raw_reader", raw_reader},
                                         {"signals", interrupted},      {"senders", many_senders},
                                         {"receivers", many_receivers}, {0}};
const struct group group_threads = {"threads", cases};
