/* Threads that receive from one mux at the same time. */
#define _GNU_SOURCE
#include "scene.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/kcm.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { threads = 4, slots = 8, each = 5000, rounds = 20, singles = 2000 };

struct numbered {
    uint32_t length, connection, number;
};

static struct pair pairs[threads];
static _Atomic unsigned received;

static void *writes(void *arg)
{
    uint32_t connection = (uint32_t)(uintptr_t)arg, number = 0;
    struct numbered some[50];
    while (number < each) {
        for (size_t n = 0; n < 50; n++)
            some[n] = (struct numbered){htonl(8), connection, number++};
        for (size_t done = 0; done < sizeof some;) {
            ssize_t sent = write(pairs[connection].peer, (char *)some + done, sizeof some - done);
            CHECK(sent > 0);
            done += (size_t)sent;
        }
    }
    return NULL;
}

/* Receives up to so many messages at a time, and looks at their order if they have one. */
static int receive_some(int kcm, int flags, uint32_t *next)
{
    struct numbered got[slots];
    struct iovec parts[slots];
    struct mmsghdr headers[slots];
    memset(headers, 0, sizeof headers);
    for (size_t n = 0; n < slots; n++) {
        parts[n] = (struct iovec){&got[n], sizeof got[n]};
        headers[n].msg_hdr.msg_iov = &parts[n];
        headers[n].msg_hdr.msg_iovlen = 1;
    }
    int count = recvmmsg(kcm, headers, slots, flags, NULL);
    CHECK(count > 0 || errno == EAGAIN);
    for (int n = 0; n < count; n++) {
        CHECK(headers[n].msg_len == sizeof got[n] && got[n].connection < threads && got[n].number < each);
        if (next) {
            CHECK(got[n].number >= next[got[n].connection]);
            next[got[n].connection] = got[n].number + 1;
        }
    }
    return count;
}

/* A thread with a socket of its own. What comes from one connection comes in order, to whichever socket. */
static void *reads(void *arg)
{
    int kcm = (int)(uintptr_t)arg;
    uint32_t next[threads] = {0};
    while (received < threads * each) {
        int count = receive_some(kcm, MSG_WAITFORONE, next);
        if (count > 0)
            received += (unsigned)count;
    }
    return NULL;
}

/* Each has a clone; and in the middle the process forks, whose child then has the mux too, whatever others were about. */
void read_together(void)
{
    for (useconds_t round = 0; round < rounds; round++) {
        pthread_t readers[threads], writers[threads];
        int kcms[threads], status;
        struct timeval wait = {0, 20000};
        received = 0;
        for (size_t n = 0; n < threads; n++) {
            kcms[n] = n == 0 ? kcm_socket(SOCK_DGRAM) : clone_of(kcms[0]);
            CHECK(setsockopt(kcms[n], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0);
            pairs[n] = attached(kcms[0]);
        }
        for (uintptr_t n = 0; n < threads; n++) {
            CHECK(pthread_create(&readers[n], NULL, reads, (void *)(uintptr_t)kcms[n]) == 0);
            CHECK(pthread_create(&writers[n], NULL, writes, (void *)n) == 0);
        }
        usleep(round * 500);
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        for (size_t n = 0; n < threads; n++)
            CHECK(pthread_join(writers[n], NULL) == 0 && pthread_join(readers[n], NULL) == 0);
        CHECK(received == threads * each);
        for (size_t n = 0; n < threads; n++)
            CHECK(close(kcms[n]) == 0 && close(pairs[n].tcp) == 0 && close(pairs[n].peer) == 0);
    }
}

static void *waits(void *arg)
{
    int kcm = (int)(uintptr_t)arg;
    char text[256];
    for (;;) {
        ssize_t len = recv(kcm, text, sizeof text, 0);
        CHECK(len == 8);
        if (memcmp(text + 4, "stop", 4) == 0)
            return NULL;
        received++;
    }
}

/* Several sleep on one socket, and each message wakes one: none is left with nobody awake. */
void woken_together(void)
{
    pthread_t readers[threads];
    int kcm = kcm_socket(SOCK_DGRAM), other = clone_of(kcm), on = 1;
    CHECK(setsockopt(other, SOL_KCM, KCM_RECV_DISABLE, &on, sizeof on) == 0);
    for (size_t n = 0; n < threads; n++) {
        pairs[n] = attached(kcm);
        CHECK(pthread_create(&readers[n], NULL, waits, (void *)(uintptr_t)kcm) == 0);
    }
    received = 0;
    for (unsigned n = 0; n < singles; n++) {
        put(pairs[n % threads].peer, "text");
        /* Now and then all are asleep again, and now and then one is about to. */
        while (n % 3 == 0 && received <= n)
            usleep(n % 50);
    }
    while (received < singles)
        usleep(100);
    for (size_t n = 0; n < threads; n++)
        put(pairs[n].peer, "stop");
    for (size_t n = 0; n < threads; n++)
        CHECK(pthread_join(readers[n], NULL) == 0);
}

/* A socket whose reader takes a few messages at a time, and then no more, keeps others from none: not one that comes, nor
   one that its own are handed on to. */
void lent_and_wanted(void)
{
    enum { at_once = 500, of_the_first = 24 };
    struct numbered some[at_once];
    int status, on = 1;
    for (int way = 0; way < 3; way++) {
        uint32_t first[threads] = {0}, second[threads] = {0};
        int kcm = kcm_socket(SOCK_DGRAM), got = 0;
        struct timeval wait = {0, 300000};
        pairs[0] = attached(kcm);
        for (uint32_t n = 0; n < at_once; n++)
            some[n] = (struct numbered){htonl(8), 0, n};
        CHECK(write(pairs[0].peer, some, sizeof some) == sizeof some);
        while (got < of_the_first)
            got += receive_some(kcm, MSG_WAITFORONE, first);
        int other = clone_of(kcm);
        CHECK(setsockopt(other, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0);
        struct pollfd entry = {.fd = other, .events = POLLIN};
        CHECK(poll(&entry, 1, 5000) == 1);
        got += receive_some(other, MSG_WAITFORONE, second);
        got += receive_some(kcm, MSG_WAITFORONE, first);
        if (way == 0) {
            CHECK(setsockopt(kcm, SOL_KCM, KCM_RECV_DISABLE, &on, sizeof on) == 0);
        } else if (way == 1) {
            CHECK(close(kcm) == 0);
        } else {
            pid_t child = fork();
            if (child == 0)
                _exit(0);
            CHECK(waitpid(child, &status, 0) == child && status == 0);
            CHECK(close(kcm) == 0);
        }
        /* What is handed on comes behind later ones. */
        for (int count = 1; count > 0; got += count > 0 ? count : 0)
            count = receive_some(other, MSG_WAITFORONE, NULL);
        CHECK(got == at_once);
        CHECK(close(other) == 0 && close(pairs[0].tcp) == 0 && close(pairs[0].peer) == 0);
    }
}
