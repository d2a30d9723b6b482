/* Muxes in several processes. */
#define _GNU_SOURCE
#include "scene.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Processor time of this process and of those that it has waited for, in microseconds. */
static long computed(void)
{
    long sum = 0;
    for (int who = RUSAGE_CHILDREN; who <= RUSAGE_SELF; who++) {
        struct rusage used;
        CHECK(getrusage(who, &used) == 0);
        sum += (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000L + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    }
    return sum;
}

/* What it takes to start a program with all sockets: the least of a few times, whoever else uses the processor's caches. */
static long given_on(void)
{
    char *const arguments[] = {"true", NULL};
    long least = LONG_MAX;
    for (int turn = 0; turn < 3; turn++) {
        pid_t child;
        int status;
        long before = computed();
        CHECK(posix_spawnp(&child, "true", NULL, NULL, arguments, environ) == 0);
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        long took = computed() - before;
        least = took < least ? took : least;
    }
    return least;
}

static void more_sockets(int kcm, int clones)
{
    for (int n = 0; n < clones; n++)
        clone_of(kcm);
    for (int n = 0; n < clones / 2; n++)
        attached(kcm);
}

/* What another program takes grows with the number of sockets that it is given, not with its square. */
void many_given_on(void)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int kcm = kcm_socket(SOCK_DGRAM);
    more_sockets(kcm, 50);
    long few = given_on();
    more_sockets(kcm, 150);
    /* Four times as many: four times as long, not sixteen. */
    CHECK(given_on() < 8 * few);
}

/* Makes a mux and passes its socket through one end of a pair; in a child that ends then. */
static void passed_by_child(int kcm, int through)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        if (kcm < 0) {
            kcm = kcm_socket(SOCK_DGRAM);
            attached(kcm);
        }
        pass(through, kcm);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* Who is passed a socket finds its mux as long as any process has that, be it not the one that passed it. */
void passer_is_gone(void)
{
    int through[2], status;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, through) == 0);
    pid_t receiver = fork();
    if (receiver == 0) {
        char byte, text[256];
        CHECK(close(through[0]) == 0 && read(through[1], &byte, 1) == 1);
        int kcm = passed(through[1]);
        CHECK(get(kcm, text) == 4);
        _exit(0);
    }
    CHECK(close(through[1]) == 0);
    int kcm = kcm_socket(SOCK_DGRAM);
    struct pair pair = attached(kcm);
    CHECK(write(through[0], "x", 1) == 1);
    passed_by_child(kcm, through[0]);
    put(pair.peer, "here");
    CHECK(waitpid(receiver, &status, 0) == receiver && status == 0);
}

/* A socket whose mux is gone says so, and not that a message without bytes came. */
void mux_is_gone(void)
{
    int through[2];
    char byte;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, through) == 0);
    passed_by_child(-1, through[0]);
    int kcm = passed(through[1]);
    CHECK(recv(kcm, &byte, 1, 0) == -1 && errno == ENOTCONN);
    CHECK(send(kcm, "x", 1, 0) == -1 && errno == ENOTCONN);
}

/* Senders that are killed while they wait for room leave nothing that keeps a socket from being told writable. */
static void with_killed_senders(int size)
{
    static char message[30000];
    pid_t children[15];
    int kcm = kcm_socket(SOCK_SEQPACKET), set = epoll_create1(0), status;
    struct pair pair = connection();
    if (size)
        CHECK(setsockopt(kcm, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    while (send(kcm, message, sizeof message, MSG_EOR | MSG_DONTWAIT) > 0)
        ;
    for (int n = 0; n < 15; n++) {
        children[n] = fork();
        if (children[n] == 0)
            _exit(send(kcm, message, sizeof message, MSG_EOR) < 0);
    }
    for (int n = 0; n < 15; n++)
        until_asleep(children[n]);
    for (int n = 0; n < 15; n++)
        CHECK(kill(children[n], SIGKILL) == 0 && waitpid(children[n], &status, 0) == children[n] && WIFSIGNALED(status));
    struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, kcm, &event) == 0 && epoll_wait(set, &event, 1, 0) == 1);
    CHECK(epoll_wait(set, &event, 1, 0) == 0);
    CHECK(attach(kcm, pair.tcp) == 0);
    CHECK(epoll_wait(set, &event, 1, 1000) == 1 && event.events == EPOLLOUT);
    struct pollfd entry = {.fd = kcm, .events = POLLOUT};
    CHECK(poll(&entry, 1, 0) == 1 && entry.revents == POLLOUT);
}

void killed_senders(void)
{
    with_killed_senders(0);
    with_killed_senders(1);
}

/* The library's thread posts errors while another one forks. */
void posted_while_forking(void)
{
    enum { ROUNDS = 2000 };
    int kcm = kcm_socket(SOCK_DGRAM), over = 0;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fork_forever, &over) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        struct pair pair = attached(kcm);
        struct pollfd entry = {.fd = pair.tcp};
        CHECK(write(pair.peer, "\x7f\xff\xff", 4) == 4);
        CHECK(poll(&entry, 1, 5000) == 1 && entry.revents == POLLERR);
        CHECK(unattach(kcm, pair.tcp) == 0);
        close(pair.tcp);
        close(pair.peer);
    }
    __atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
    CHECK(pthread_join(thread, NULL) == 0);
}
