/* Who receives what, and when. */
#define _GNU_SOURCE
#include "scene.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/kcm.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LONG = 4096, BACKLOG = 300, SHORT = 64, SLOTS = 64 };

static char stream[16 << 20];

static void *fill(void *fd)
{
    for (size_t sent = 0; sent < sizeof stream;) {
        ssize_t n = write(*(int *)fd, stream, sizeof stream - sent);
        CHECK(n > 0);
        sent += n;
    }
    return NULL;
}

/* A connection whose receive buffer the kernel has made large, with messages standing in it. */
static struct pair with_backlog(void)
{
    struct pair pair = connection();
    pthread_t thread;
    int standing = 0;
    CHECK(pthread_create(&thread, NULL, fill, &pair.peer) == 0);
    static char bytes[1 << 20];
    for (size_t got = 0; got < sizeof stream;) {
        ssize_t n = recv(pair.tcp, bytes, sizeof bytes, 0);
        CHECK(n > 0);
        got += n;
    }
    CHECK(pthread_join(thread, NULL) == 0);
    *(uint32_t *)bytes = htonl(LONG - 4);
    for (int n = 0; n < BACKLOG; n++)
        CHECK(write(pair.peer, bytes, LONG) == LONG);
    while (standing < BACKLOG * LONG)
        CHECK(ioctl(pair.tcp, FIONREAD, &standing) == 0);
    return pair;
}

static void put_short(int fd, int count)
{
    static char messages[2 * SLOTS][SHORT];
    for (int n = 0; n < count; n++)
        *(uint32_t *)messages[n] = htonl(SHORT - 4);
    CHECK(write(fd, messages, count * SHORT) == count * SHORT);
}

/*
 * What stands in TCP is received although a busy reader never leaves its socket empty, with messages of another connection,
 * and TCP has nothing new to tell.
 */
void backlog(void)
{
    static char bytes[SLOTS][LONG];
    struct mmsghdr headers[SLOTS] = {0};
    struct iovec parts[SLOTS];
    int kcm = kcm_socket(SOCK_DGRAM), room = 200 << 10, long_ones = 0;
    struct pair busy = attached(kcm), waits = with_backlog();
    for (int n = 0; n < SLOTS; n++) {
        parts[n] = (struct iovec){bytes[n], LONG};
        headers[n].msg_hdr = (struct msghdr){.msg_iov = &parts[n], .msg_iovlen = 1};
    }
    /* Room for more than one batch of the connection. */
    CHECK(setsockopt(kcm, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) == 0);
    put_short(busy.peer, 1);
    for (int calls = 0; long_ones < BACKLOG; calls++) {
        put_short(busy.peer, SLOTS);
        if (calls == 10)
            CHECK(attach(kcm, waits.tcp) == 0);
        /* Waits for at least one: the busy connection has it. That this ends is the test. */
        int got = recvmmsg(kcm, headers, SLOTS, MSG_WAITFORONE, NULL);
        CHECK(got > 0);
        for (int n = 0; n < got; n++)
            long_ones += headers[n].msg_len == LONG;
    }
}

/* As much as fits of an endless row of messages. */
static void flood(int fd)
{
    static char messages[1024][SHORT];
    static size_t sent;
    ssize_t n;
    for (int m = 0; m < 1024; m++)
        *(uint32_t *)messages[m] = htonl(SHORT - 4);
    while ((n = send(fd, &messages[0][sent], sizeof messages - sent, MSG_DONTWAIT)) > 0)
        sent = (sent + n) % sizeof messages;
}

/* A connection that never runs dry keeps no other one waiting. */
void in_turn(void)
{
    enum { MOST = 50000, ROUNDS = 100 };
    static char bytes[SLOTS][SHORT];
    struct mmsghdr headers[SLOTS] = {0};
    struct iovec parts[SLOTS];
    for (int n = 0; n < SLOTS; n++) {
        parts[n] = (struct iovec){bytes[n], SHORT};
        headers[n].msg_hdr = (struct msghdr){.msg_iov = &parts[n], .msg_iovlen = 1};
    }
    int kcm = kcm_socket(SOCK_DGRAM);
    struct pair busy = attached(kcm), quiet = attached(kcm);
    for (int slots = SLOTS; slots > 0; slots /= 8) {
        for (int round = 0; round < ROUNDS; round++) {
            int others = 0, found = 0;
            put(quiet.peer, "here");
            while (!found) {
                flood(busy.peer);
                int got = recvmmsg(kcm, headers, slots, MSG_DONTWAIT, NULL);
                for (int n = 0; n < got; n++)
                    found += headers[n].msg_len != SHORT;
                others += got > 0 ? got : 0;
                CHECK(others < MOST);
            }
        }
    }
}

static void spend(long nanoseconds)
{
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec < nanoseconds);
}

static int receive_all(int kcm)
{
    char bytes[SHORT];
    int count = 0;
    while (recv(kcm, bytes, sizeof bytes, MSG_DONTWAIT) == SHORT)
        count++;
    return count;
}

static int is_readable(int fd)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    return poll(&entry, 1, 0) == 1;
}

/* Returns when a message is in TCP, or somebody has it already. */
static void arrives(struct pair pair, int receiver)
{
    int standing = 0;
    put_short(pair.peer, 1);
    while (standing == 0 && !is_readable(receiver))
        CHECK(ioctl(pair.tcp, FIONREAD, &standing) == 0);
}

/* An idle socket has what comes for it before a busy one has emptied its queue. */
void idle(void)
{
    enum { QUEUED = 120, RECEIVED = 60, ROUNDS = 20 };
    int kcm = kcm_socket(SOCK_DGRAM), other = clone_of(kcm), on = 1, off = 0;
    struct pair busy = attached(kcm), slow = attached(kcm);
    for (int round = 0; round < ROUNDS; round++) {
        char bytes[SHORT];
        CHECK(setsockopt(other, SOL_KCM, KCM_RECV_DISABLE, &on, sizeof on) == 0);
        put_short(busy.peer, QUEUED);
        CHECK(recv(kcm, bytes, sizeof bytes, 0) == SHORT);
        CHECK(setsockopt(other, SOL_KCM, KCM_RECV_DISABLE, &off, sizeof off) == 0);
        spend(500000); /* whoever else was woken sleeps again */
        for (int n = 0; n < RECEIVED; n++) {
            CHECK(recv(kcm, bytes, sizeof bytes, MSG_DONTWAIT) == SHORT);
            if (n == 0)
                arrives(slow, other);
            spend(2000);
        }
        CHECK(is_readable(other));
        CHECK(receive_all(kcm) + receive_all(other) == QUEUED - RECEIVED);
    }
}

/* Headers that the kernel would not take end recvmmsg(2) when it is their turn, and no message is lost for them. */
void wrong_headers(void)
{
    static char bytes[4][SHORT];
    struct iovec parts[4], *nowhere = (struct iovec *)16;
    struct mmsghdr headers[4];
    int kcm = kcm_socket(SOCK_DGRAM);
    struct pair pair = attached(kcm);
    for (int wrong = 0; wrong < 3; wrong++) {
        for (int n = 0; n < 4; n++) {
            parts[n] = (struct iovec){bytes[n], SHORT};
            headers[n] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[n], .msg_iovlen = 1}};
        }
        headers[wrong].msg_hdr.msg_iovlen = 1025;
        headers[wrong + 1].msg_hdr.msg_iov = nowhere;
        put_short(pair.peer, 4);
        if (wrong > 0)
            CHECK(recvmmsg(kcm, headers, 4, 0, NULL) == wrong && headers[wrong - 1].msg_len == SHORT);
        CHECK(recvmmsg(kcm, &headers[wrong], 1, 0, NULL) == -1 && errno == EMSGSIZE);
        CHECK(recvmmsg(kcm, &headers[wrong + 1], 1, 0, NULL) == -1 && errno == EFAULT);
        while (wrong == 0 && !is_readable(kcm))
            ;
        CHECK(receive_all(kcm) == 4 - wrong);
    }
    /* Without room a message is cut, and lost. */
    headers[0].msg_hdr.msg_iovlen = 0;
    headers[2].msg_hdr.msg_iovlen = 1;
    parts[2].iov_len = 0;
    put_short(pair.peer, 3);
    CHECK(recvmmsg(kcm, headers, 3, 0, NULL) == 3);
    for (int n = 0; n < 3; n++) {
        CHECK(headers[n].msg_len == (n == 1 ? SHORT : 0));
        CHECK(headers[n].msg_hdr.msg_flags == (n == 1 ? MSG_EOR : MSG_EOR | MSG_TRUNC));
    }
    /* A buffer outside of memory has a message as well, which is lost. */
    parts[1].iov_base = nowhere;
    headers[0].msg_hdr.msg_iovlen = 1;
    put_short(pair.peer, 4);
    CHECK(recvmmsg(kcm, headers, 3, 0, NULL) == 1 && receive_all(kcm) == 2);
    CHECK(recvmmsg(kcm, headers, 0, MSG_DONTWAIT, NULL) == 0);
}
