/* See sockets.h. */
#define _GNU_SOURCE
#include "sockets.h"

#include <fcntl.h>
#include <linux/kcm.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

void fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s (%m)\n", file, line, what);
    fflush(stdout);
    _exit(1);
}

int kcm_socket(int type)
{
    int kcm = socket(AF_KCM, type, KCMPROTO_CONNECTED);
    CHECK(kcm >= 0);
    return kcm;
}

int clone_of(int kcm)
{
    struct kcm_clone clone = {0};
    CHECK(ioctl(kcm, SIOCKCMCLONE, &clone) == 0);
    return clone.fd;
}

int attach(int kcm, int tcp)
{
    struct kcm_attach attach = {.fd = tcp, .bpf_fd = -1};
    return ioctl(kcm, SIOCKCMATTACH, &attach);
}

int unattach(int kcm, int tcp)
{
    struct kcm_unattach unattach = {.fd = tcp};
    return ioctl(kcm, SIOCKCMUNATTACH, &unattach);
}

enum { most_passed = 8 };

ssize_t pass_many(int through, const int *fds, int count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(most_passed * sizeof *fds)];
    } control = {.header = {CMSG_LEN(count * sizeof *fds), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};
    message.msg_controllen = CMSG_SPACE(count * sizeof *fds);
    memcpy(CMSG_DATA(&control.header), fds, count * sizeof *fds);
    return sendmsg(through, &message, 0);
}

void pass(int through, int fd)
{
    CHECK(pass_many(through, &fd, 1) == 1);
}

int passed_many(int through, int *fds, int count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(most_passed * sizeof *fds)];
    } control;
    char byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};
    message.msg_controllen = CMSG_LEN(count * sizeof *fds);
    CHECK(recvmsg(through, &message, 0) == 1);
    if (message.msg_controllen > 0)
        memcpy(fds, CMSG_DATA(&control.header), control.header.cmsg_len - CMSG_LEN(0));
    return message.msg_flags;
}

int passed(int through)
{
    int fd = -1;
    CHECK(passed_many(through, &fd, 1) == 0 && fd >= 0);
    return fd;
}

void until_asleep(pid_t thread)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/syscall", thread);
    for (int patience = 10000;; patience--) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = file >= 0 ? read(file, line, sizeof line - 1) : -1;
        CHECK(got > 0 && patience > 0);
        close(file);
        line[got] = 0;
        /* The number of a system call, or "running". */
        char *end;
        long call = strtol(line, &end, 10);
        if (end > line && call >= 0 && call != SYS_futex)
            return;
        usleep(1000);
    }
}

struct start {
    void *(*run)(void *);
    void *argument;
    atomic_int thread;
};

static void *begin(void *at)
{
    struct start *start = at, own = {.run = start->run, .argument = start->argument};
    start->thread = gettid();
    return own.run(own.argument);
}

pthread_t asleep_in(void *(*run)(void *), void *argument)
{
    struct start start = {run, argument, 0};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, begin, &start) == 0);
    while (start.thread == 0)
        sched_yield();
    until_asleep(start.thread);
    return thread;
}

void *fork_forever(void *until)
{
    while (!__atomic_load_n((int *)until, __ATOMIC_SEQ_CST)) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        CHECK(waitpid(child, NULL, 0) == child);
    }
    return NULL;
}
