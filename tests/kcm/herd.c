/* Processes that share a mux: who wakes when a message comes. */
#define _GNU_SOURCE
#include "scene.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/kcm.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 8, MESSAGES = 400 };

static int epoll_of(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    int set = epoll_create1(EPOLL_CLOEXEC);
    CHECK(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0);
    return set;
}

/* How often the library's thread of a process has gone to sleep. */
static long sleeps_of_pump(pid_t process)
{
    char path[300], line[128];
    long sleeps = 0;
    snprintf(path, sizeof path, "/proc/%d/task", process);
    DIR *tasks = opendir(path);
    CHECK(tasks);
    for (struct dirent *task; (task = readdir(tasks));) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/status", process, task->d_name);
        FILE *status = fopen(path, "r");
        int is_pump = 0;
        while (status && fgets(line, sizeof line, status)) {
            is_pump |= strncmp(line, "Name:\tpreloop-kcm", 17) == 0;
            if (is_pump)
                sscanf(line, "voluntary_ctxt_switches: %ld", &sleeps);
        }
        if (status)
            fclose(status);
    }
    closedir(tasks);
    return sleeps;
}

/* Counts what it receives, until it is killed. */
static pid_t worker(int kcm, volatile int *received)
{
    pid_t child = fork();
    if (child)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int set = epoll_of(kcm);
    struct epoll_event event;
    char text[256];
    for (;;) {
        CHECK(epoll_wait(set, &event, 1, -1) == 1);
        while (recv(kcm, text, sizeof text, MSG_DONTWAIT) > 0)
            __atomic_fetch_add(received, 1, __ATOMIC_SEQ_CST);
    }
}

static long sleeps(pid_t *workers)
{
    long sum = sleeps_of_pump(getpid());
    for (int n = 0; n < WORKERS; n++)
        sum += sleeps_of_pump(workers[n]);
    return sum;
}

static void kill_all(pid_t *processes, int count)
{
    for (int n = 0; n < count; n++)
        CHECK(kill(processes[n], SIGKILL) == 0 && waitpid(processes[n], NULL, 0) == processes[n]);
}

static void wait_until(volatile int *received, int count)
{
    for (long since = milliseconds(); *received < count; usleep(1000))
        CHECK(milliseconds() - since < 5000);
}

/* Of the processes that share a mux one wakes for what comes, and the one whose message it is. */
void herd(void)
{
    volatile int *received = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t workers[WORKERS];
    int kcm = kcm_socket(SOCK_DGRAM), clones[WORKERS];
    struct pair before = attached(kcm);
    for (int n = 0; n < WORKERS; n++)
        clones[n] = clone_of(kcm);
    for (int n = 0; n < WORKERS; n++)
        workers[n] = worker(clones[n], received);
    /* One that they find in the vault. */
    struct pair after = attached(kcm);
    for (int n = 0; n < WORKERS; n++)
        close(clones[n]);
    int on = 1;
    CHECK(setsockopt(kcm, SOL_KCM, KCM_RECV_DISABLE, &on, sizeof on) == 0);
    put(before.peer, "first");
    put(after.peer, "first");
    wait_until(received, 2);
    usleep(100000);
    long slept = sleeps(workers);
    for (int n = 0; n < MESSAGES; n++) {
        put(n % 2 ? before.peer : after.peer, "hello");
        usleep(1000);
    }
    wait_until(received, MESSAGES + 2);
    slept = sleeps(workers) - slept;
    CHECK(slept < 2 * MESSAGES);
    kill_all(workers, WORKERS);
}

/* A child that is the first to wake for what comes on a connection, since it has attached it. */
struct first {
    pid_t child;
    struct pair pair;
};

static struct first first_to_wake(int kcm, int seconds)
{
    struct first first = {.pair = connection()};
    struct timeval limit = {.tv_sec = seconds};
    int ready[2];
    char byte, text[256];
    CHECK(setsockopt(first.pair.tcp, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 && pipe(ready) == 0);
    first.child = fork();
    if (first.child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        CHECK(attach(kcm, first.pair.tcp) == 0 && write(ready[1], "x", 1) == 1);
        pause();
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    close(ready[1]);
    put(first.pair.peer, "there");
    CHECK(get(kcm, text) == 5);
    return first;
}

static void done(struct first first)
{
    kill_all(&first.child, 1);
    close(first.pair.tcp);
    close(first.pair.peer);
}

/* Nothing waits for a process that was woken for it and killed before it had looked. At most it has taken it along. */
void woken_and_killed(void)
{
    enum { ROUNDS = 300 };
    int kcm = kcm_socket(SOCK_DGRAM), lost = 0;
    char text[256];
    attached(kcm);
    for (int round = 0; round < ROUNDS; round++) {
        struct first first = first_to_wake(kcm, 0);
        put(first.pair.peer, "one");
        for (volatile int n = round * 50; n > 0; n--)
            ;
        kill_all(&first.child, 1);
        /* It may have been killed with the message in its hands. */
        if (get(kcm, text) < 0) {
            lost++;
            put(first.pair.peer, "two");
            CHECK(get(kcm, text) == 3 && strcmp(text, "two") == 0);
        }
        CHECK(unattach(kcm, first.pair.tcp) == 0);
        close(first.pair.tcp);
        close(first.pair.peer);
    }
    CHECK(lost < ROUNDS / 10);
}

static void stop(pid_t child)
{
    int status;
    usleep(20000); /* outside of the mux */
    CHECK(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
}

/* Nor for one that is stopped: not for what comes, and not for the end of the time that a message may take. */
void stopped(void)
{
    int kcm = kcm_socket(SOCK_DGRAM), error;
    char text[256];
    attached(kcm);
    for (int round = 0; round < 20; round++) {
        struct first first = first_to_wake(kcm, 0);
        stop(first.child);
        for (int n = 0; n < 5; n++) {
            put(first.pair.peer, "here");
            CHECK(get(kcm, text) == 4);
        }
        done(first);
    }
    struct first first = first_to_wake(kcm, 1);
    usleep(20000); /* asleep again */
    CHECK(write(first.pair.peer, "\0\0", 2) == 2);
    usleep(100000);
    stop(first.child);
    usleep(1500000);
    socklen_t length = sizeof error;
    CHECK(getsockopt(first.pair.tcp, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == ETIMEDOUT);
    done(first);
}

/* What a call has left in TCP is there for who can read it, not for a process that has no descriptor of that connection. */
void left_to_those_who_can(void)
{
    enum { MESSAGES = 300, SHORT = 64, ROUNDS = 5 };
    static char messages[MESSAGES][SHORT];
    struct rlimit limit = {64, 64};
    struct timeval second = {.tv_sec = 1};
    int kcm = kcm_socket(SOCK_DGRAM), ready[2];
    char byte, text[256];
    for (int n = 0; n < MESSAGES; n++)
        *(uint32_t *)messages[n] = htonl(SHORT - 4);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0 && pipe(ready) == 0);
    attached(kcm);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (dup(0) >= 0)
            ;
        CHECK(write(ready[1], "x", 1) == 1);
        for (;;)
            pause();
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    struct pair pair = attached(kcm);
    CHECK(setsockopt(kcm, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        size_t sent = 0, at = 0;
        for (ssize_t n; (n = send(pair.peer, &messages[0][at], sizeof messages - at, MSG_DONTWAIT)) > 0;) {
            sent += n;
            at = sent % sizeof messages;
        }
        for (; sent >= SHORT; sent -= SHORT)
            CHECK(recv(kcm, text, sizeof text, 0) == SHORT);
        ssize_t rest = SHORT - sent;
        CHECK(write(pair.peer, &messages[0][sent], rest) == rest && recv(kcm, text, sizeof text, 0) == SHORT);
    }
    kill_all(&child, 1);
}
