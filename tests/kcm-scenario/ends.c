/* Calls that end in other ways than by a message: cancelled, closed under, woken together. */
#define _GNU_SOURCE
#include "scenario.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void all_come(struct scene it)
{
    for (int i = 0; i < 4; i++)
        far_sends(it.far, 8 + (size_t)i);
    const char *texts[5];
    for (int i = 0; i < 5; i++)
        texts[i] = i < 4 ? next_message(it.kcm) : result(recv(it.kcm, &(char){0}, 1, MSG_DONTWAIT));
    fact("the first socket has", "%s %s %s %s %s", texts[0], texts[1], texts[2], texts[3], texts[4]);
}

static void cancel_receiver(void)
{
    struct scene it = scene(SOCK_DGRAM);
    struct caller caller = {.kcm = clone_of(it.kcm)};
    start(&caller);
    wait_until_asleep(caller.thread);
    pthread_cancel(caller.id);
    fact("recv", "%s", ended(&caller));
    far_sends(it.far, 20);
    far_sends(it.far, 21);
    wait_ms(100);
    fact("close", "%s", result(close(caller.kcm)));
    const char *first = next_message(it.kcm);
    fact("none is lost", "%s %s", first, next_message(it.kcm));
    all_come(it);
}

static void fill(struct scene it, int count)
{
    char *bytes = calloc(1, 1 << 16);
    *(unsigned *)bytes = __builtin_bswap32((1 << 16) - 4);
    for (int i = 0; i < count && send(it.kcm, bytes, 1 << 16, MSG_EOR | MSG_DONTWAIT) > 0; i++)
        ;
    free(bytes);
}

static long drain(int far, long most)
{
    static char buffer[1 << 16];
    long bytes = 0;
    struct pollfd entry = {.fd = far, .events = POLLIN};
    while (bytes < most && poll(&entry, 1, 2000) == 1) {
        ssize_t n = recv(far, buffer, sizeof buffer, 0);
        if (n <= 0)
            break;
        bytes += n;
    }
    return bytes;
}

static void cancel_sender(void)
{
    struct scene it = scene(SOCK_SEQPACKET);
    fill(it, 1000);
    struct caller caller = {.kcm = it.kcm, .sends = 1};
    start(&caller);
    wait_until_asleep(caller.thread);
    pthread_cancel(caller.id);
    fact("send", "%s", ended(&caller));
    long bytes = drain(it.far, 1l << 40);
    fact("what had been queued", "%s", bytes > 0 && bytes % (1 << 16) == 0 ? "whole messages" : "not whole");
    fill(it, 1);
    fact("another message", "%ld", drain(it.far, 1 << 16));
}

static void close_under_sender(void)
{
    struct scene it = scene(SOCK_DGRAM);
    int clone = clone_of(it.kcm);
    fill((struct scene){clone, it.near, it.far}, 1000);
    struct caller caller = {.kcm = clone, .sends = 1};
    start(&caller);
    wait_until_asleep(caller.thread);
    fact("close", "%s", result(close(clone)));
    drain(it.far, 1l << 40);
    fact("send", "%s", ended(&caller));
}

static void under_receiver(int by_dup2)
{
    struct scene it = scene(SOCK_DGRAM);
    struct caller caller = {.kcm = clone_of(it.kcm)};
    start(&caller);
    wait_until_asleep(caller.thread);
    int done = by_dup2 ? dup2(1, caller.kcm) == caller.kcm : close(caller.kcm) == 0;
    fact(by_dup2 ? "dup2" : "close", "%s", done ? "done" : "failed");
    far_sends(it.far, 30);
    fact("recv", "%s", ended(&caller));
    all_come(it);
}

static void close_under_receiver(void)
{
    under_receiver(0);
}

static void dup2_under_receiver(void)
{
    under_receiver(1);
}

/* The last socket of the mux, while a thread sleeps on it: the connection lives until that returns. */
static void close_last(void)
{
    struct scene it = scene(SOCK_DGRAM);
    struct caller caller = {.kcm = it.kcm};
    close(it.near);
    start(&caller);
    wait_until_asleep(caller.thread);
    close(it.kcm);
    far_sends(it.far, 30);
    fact("recv", "%s", ended(&caller));
    char byte;
    struct pollfd entry = {.fd = it.far, .events = POLLIN};
    fact("the connection ends", "%s", poll(&entry, 1, 2000) == 1 ? result(recv(it.far, &byte, 1, 0)) : "never");
}

struct waiter {
    int fd, set, found;
    pthread_t thread;
};

static void *wait_in_poll(void *argument)
{
    struct waiter *waiter = argument;
    struct pollfd entry = {.fd = waiter->fd, .events = POLLIN};
    struct epoll_event event;
    waiter->found = waiter->set < 0 ? poll(&entry, 1, 2000) : epoll_wait(waiter->set, &event, 1, 2000);
    return NULL;
}

static int wake(struct scene it, const int sets[4])
{
    struct waiter waiters[4];
    int found = 0;
    for (int i = 0; i < 4; i++) {
        waiters[i] = (struct waiter){it.kcm, sets[i], 0, 0};
        pthread_create(&waiters[i].thread, NULL, wait_in_poll, &waiters[i]);
    }
    wait_ms(200);
    far_sends(it.far, 9);
    for (int i = 0; i < 4; i++) {
        pthread_join(waiters[i].thread, NULL);
        found += waiters[i].found == 1;
    }
    next_message(it.kcm);
    return found;
}

static void many_poll(void)
{
    struct scene it = scene(SOCK_DGRAM);
    int sets[4];
    for (unsigned kind = 0; kind < 2; kind++)
        for (int i = 0; i < 4; i++) {
            struct epoll_event event = {.events = EPOLLIN | (kind ? EPOLLET : 0)};
            sets[i] = epoll_create1(0);
            epoll_ctl(sets[i], EPOLL_CTL_ADD, it.kcm, &event);
            if (i == 3)
                fact(kind ? "edge-triggered sets of their own" : "level-triggered sets of their own", "%d",
                     wake(it, sets));
        }
    fact("poll", "%d", wake(it, (int[4]){-1, -1, -1, -1}));
    fact("one edge-triggered set", "%d", wake(it, (int[4]){sets[0], sets[0], sets[0], sets[0]}));
}

const struct scenario end_scenarios[] = {
    {"cancel-receiver", cancel_receiver},
    {"cancel-sender", cancel_sender},
    {"close-under-sender", close_under_sender},
    {"close-under-receiver", close_under_receiver},
    {"dup2-under-receiver", dup2_under_receiver},
    {"close-last", close_last},
    {"many-poll", many_poll},
    {0},
};
