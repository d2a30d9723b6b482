/* See serve.h. */
#define _GNU_SOURCE
#include "serve.h"

#include <errno.h>
#include <preloop/kcm.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { threads = 3 };

int serve_one(int kcm, int flags)
{
    static _Thread_local unsigned char *room;
    if (!room)
        room = malloc(largest);
    struct sockaddr_kcm from;
    socklen_t length = sizeof from;
    ssize_t got = recvfrom(kcm, room, largest, flags, (void *)&from, &length);
    if (got < 0 && errno == EAGAIN)
        return 0;
    CHECK(got > 0 && sendto(kcm, room, (size_t)got, MSG_EOR, length ? (void *)&from : NULL, length) == got);
    return 1;
}

static void *asleep(void *kcm)
{
    while (serve_one((int)(intptr_t)kcm, 0))
        ;
    return NULL;
}

static void serve_by_epoll(int kcm)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int set = epoll_create1(0);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, kcm, &event) == 0);
    for (;;) {
        while (serve_one(kcm, MSG_DONTWAIT))
            ;
        CHECK(epoll_wait(set, &event, 1, -1) == 1);
    }
}

void serve(int kcm, enum way way)
{
    void *argument = (void *)(intptr_t)kcm;
    if (way == EPOLL)
        serve_by_epoll(kcm);
    for (int more = way == THREADS ? threads - 1 : 0; more > 0; more--) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, asleep, argument) == 0);
    }
    asleep(argument);
    abort();
}

struct receiver receiver_of(enum way way)
{
    int through[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, through) == 0);
    struct receiver receiver = {fork(), through[0]};
    if (receiver.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(through[0]);
        int kcm = passed(through[1]);
        CHECK(write(through[1], "x", 1) == 1);
        serve(kcm, way);
    }
    close(through[1]);
    return receiver;
}

void has_received(const struct receiver *receiver)
{
    char byte;
    CHECK(read(receiver->through, &byte, 1) == 1);
}

pid_t alone_with(int kcm, const int *tcp, int count)
{
    int go[2];
    char byte;
    CHECK(pipe(go) == 0);
    pid_t child = fork();
    for (int i = 0; i < count; i++)
        close(tcp[i]);
    if (child) {
        close(kcm);
        CHECK(write(go[1], "x", 1) == 1);
    } else {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        CHECK(read(go[0], &byte, 1) == 1);
    }
    close(go[0]);
    close(go[1]);
    return child;
}

void run_anew(int kcm, const char *verb, int number)
{
    char descriptor[16], digits[16];
    char *words[] = {"kcm-moved", (char *)verb, descriptor, digits, NULL};
    snprintf(descriptor, sizeof descriptor, "%d", kcm);
    snprintf(digits, sizeof digits, "%d", number);
    execv("/proc/self/exe", words);
}

int serves_anew(int kcm, const char *verb, int number)
{
    if (strcmp(verb, "serve") == 0)
        serve(kcm, (enum way)number);
    CHECK(strcmp(verb, "turns") == 0 && serve_one(kcm, 0));
    if (number > 1)
        run_anew(kcm, verb, number - 1);
    return number > 1;
}

void end(pid_t child)
{
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
}
