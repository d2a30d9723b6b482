/* The TCP socket below a mux. */
#define _GNU_SOURCE
#include "scene.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

static int watched, set;
static atomic_int awake;

static void *polls(void *unused)
{
    struct pollfd entry = {.fd = watched, .events = POLLIN};
    CHECK(poll(&entry, 1, -1) == 1);
    awake++;
    return unused ? NULL : (void *)(long)entry.revents;
}

/* As the last of many. */
static void *polls_many(void *unused)
{
    enum { OTHERS = 40 };
    struct pollfd entries[OTHERS + 1];
    for (int n = 0; n < OTHERS; n++)
        CHECK((entries[n] = (struct pollfd){.fd = eventfd(0, 0), .events = POLLIN}).fd >= 0);
    entries[OTHERS] = (struct pollfd){.fd = watched, .events = POLLIN};
    CHECK(poll(entries, OTHERS + 1, -1) == 1);
    awake++;
    return unused ? NULL : (void *)(long)entries[OTHERS].revents;
}

static void *selects(void *unused)
{
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(watched, &readable);
    CHECK(select(watched + 1, &readable, NULL, NULL, NULL) == 1);
    awake++;
    return unused ? NULL : (void *)POLLERR;
}

static void *waits(void *unused)
{
    struct epoll_event event;
    CHECK(epoll_wait(set, &event, 1, -1) == 1 && event.data.u64 == 17);
    awake++;
    return unused ? NULL : (void *)(long)event.events;
}

/* Who was asleep on a TCP socket when it was attached hears of KCM's errors, and no more of bytes. */
void asleep_before(void)
{
    enum { SLEEPERS = 4 };
    void *(*const sleeps[SLEEPERS])(void *) = {polls, polls_many, selects, waits};
    pthread_t threads[SLEEPERS];
    int kcm = kcm_socket(SOCK_DGRAM);
    struct pair pair = connection();
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 17};
    watched = pair.tcp;
    CHECK((set = epoll_create1(0)) >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, watched, &event) == 0);
    for (int n = 0; n < SLEEPERS; n++)
        threads[n] = asleep_in(sleeps[n], NULL);
    CHECK(attach(kcm, pair.tcp) == 0);
    for (int n = 0; n < 4; n++) {
        char text[256];
        put(pair.peer, "here");
        CHECK(get(kcm, text) == 4);
    }
    usleep(100000);
    CHECK(awake == 0);
    CHECK(write(pair.peer, "\377\377\377\377", 4) == 4); /* a message that is too long */
    for (int n = 0; n < SLEEPERS; n++) {
        void *bits;
        CHECK(pthread_join(threads[n], &bits) == 0 && (long)bits & POLLERR);
    }
}

/* A TCP socket comes back with the SO_RCVLOWAT that the program gave it: unattached, and when its mux ends. */
void low_water(void)
{
    for (int n = 0; n < 2; n++) {
        int kcm = kcm_socket(SOCK_DGRAM), bytes = 7;
        struct pair pair = connection();
        socklen_t length = sizeof bytes;
        char text[256];
        CHECK(setsockopt(pair.tcp, SOL_SOCKET, SO_RCVLOWAT, &bytes, length) == 0 && attach(kcm, pair.tcp) == 0);
        put(pair.peer, "here");
        CHECK(get(kcm, text) == 4);
        CHECK(n ? close(kcm) == 0 : unattach(kcm, pair.tcp) == 0);
        CHECK(getsockopt(pair.tcp, SOL_SOCKET, SO_RCVLOWAT, &bytes, &length) == 0 && bytes == 7);
        struct pollfd entry = {.fd = pair.tcp, .events = POLLIN};
        CHECK(write(pair.peer, "123456", 6) == 6 && poll(&entry, 1, 200) == 0);
        CHECK(write(pair.peer, "7", 1) == 1 && poll(&entry, 1, 5000) == 1 && entry.revents == POLLIN);
    }
}
