/* Lengths that are absurd, sockets that are full, and time that is limited. */
#define _GNU_SOURCE
#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* A length that no memory has, such as -1, is an error of the call alone. */
void absurd_lengths(void)
{
    for (int n = 0; n < 2; n++) {
        int kcm = kcm_socket(n ? SOCK_SEQPACKET : SOCK_DGRAM);
        char text[256];
        struct pair pair = attached(kcm);
        CHECK(send(kcm, text, (size_t)-1, 0) == -1);
        struct iovec parts[2] = {{text, (size_t)-9}, {text, 4}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        CHECK(sendmsg(kcm, &message, 0) == -1);
        put(kcm, "whole");
        CHECK(get(pair.peer, text) == 5 && strcmp(text, "whole") == 0);
    }
}

/* What sendfile(2) and splice(2) could not send stays where it was. */
void nothing_skipped(void)
{
    int kcm = kcm_socket(SOCK_DGRAM), size = 1;
    CHECK(setsockopt(kcm, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    CHECK(fcntl(kcm, F_SETFL, O_NONBLOCK) == 0);
    char bytes[8192] = {0};
    while (send(kcm, bytes, sizeof bytes, 0) > 0)
        ;
    CHECK(errno == EAGAIN);
    int pipes[2], left;
    CHECK(pipe(pipes) == 0 && write(pipes[1], bytes, 100) == 100);
    CHECK(splice(pipes[0], NULL, kcm, NULL, 100, 0) == -1 && errno == EAGAIN);
    CHECK(ioctl(pipes[0], FIONREAD, &left) == 0 && left == 100);
    FILE *file = tmpfile();
    CHECK(write(fileno(file), bytes, 100) == 100 && lseek(fileno(file), 10, SEEK_SET) == 10);
    CHECK(sendfile(kcm, fileno(file), NULL, 50) == -1 && errno == EAGAIN);
    CHECK(lseek(fileno(file), 0, SEEK_CUR) == 10);
}

/* SO_RCVTIMEO and SO_SNDTIMEO count from the call, however often it is woken in vain. */
static volatile int over;

static void *steals(void *argument)
{
    int *fds = argument;
    char text[256];
    while (!over) {
        put(fds[1], "bait");
        while (!over && recv(fds[0], text, sizeof text, MSG_DONTWAIT) < 0)
            ;
        usleep(20000);
    }
    return NULL;
}

void limited(void)
{
    int kcm = kcm_socket(SOCK_DGRAM);
    struct pair pair = attached(kcm);
    struct timeval limit = {.tv_usec = 300000};
    CHECK(setsockopt(kcm, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    int fds[2] = {kcm, pair.peer};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, steals, fds) == 0);
    long longest = 0;
    char text[256];
    for (int n = 0; n < 8; n++) {
        long start = milliseconds();
        recv(kcm, text, sizeof text, 0);
        long took = milliseconds() - start;
        longest = took > longest ? took : longest;
    }
    over = 1;
    pthread_join(thread, NULL);
    /* Counted anew with each bait it would never end. */
    CHECK(longest < 5000);
}

/* Time-outs of centuries are for ever. */
void centuries(void)
{
    int kcm = kcm_socket(SOCK_DGRAM);
    struct pair pair = connection();
    struct timeval limit = {.tv_sec = 40000000000};
    CHECK(setsockopt(pair.tcp, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 && attach(kcm, pair.tcp) == 0);
    char text[256];
    struct iovec part = {text, sizeof text};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    struct timespec most = {.tv_sec = INT64_MAX};
    CHECK(write(pair.peer, "\0\0\0", 3) == 3);
    usleep(200000);
    CHECK(write(pair.peer, "\4here", 5) == 5);
    CHECK(recvmmsg(kcm, &message, 1, 0, &most) == 1 && message.msg_len == 8);
}

/* A child goes on with the time that its parent gave to a message. */
void inherited_limit(void)
{
    int kcm = kcm_socket(SOCK_DGRAM), error;
    struct pair pair = connection();
    struct timeval limit = {.tv_usec = 600000};
    CHECK(setsockopt(pair.tcp, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    pid_t first = fork();
    if (first == 0) {
        CHECK(attach(kcm, pair.tcp) == 0 && write(pair.peer, "\0\0", 2) == 2);
        usleep(100000);
        _exit(0);
    }
    ends(first);
    socklen_t length = sizeof error;
    long end = milliseconds() + 10000;
    do {
        usleep(10000);
        CHECK(getsockopt(pair.tcp, SOL_SOCKET, SO_ERROR, &error, &length) == 0);
    } while (error == 0 && milliseconds() < end);
    CHECK(error == ETIMEDOUT);
}
