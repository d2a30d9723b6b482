/*
 * What `cargo bench-kcm` measures.
 *
 *     kcm far PORT flood|sink|echo SIZE    the far end of the connections
 *     kcm MODE PORT SIZE                   prints a figure, messages in a second (of ping: microseconds for one), and the
 *                                          CPU time of the process, in nanoseconds for one; kcm-* need KCM
 *
 * A message of SIZE bytes begins with four that say how many follow. Whoever receives looks at a byte of each.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/kcm.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef MSG_BATCH
#define MSG_BATCH 0x40000
#endif

enum { many = 64, most = 1024, buffer_size = 64 << 10, warm_up_ms = 200, measured_ms = 1000, greetings = 12 };

static size_t size;
static int port;
/* Of each thread: one for all would be what they wait for. */
static __thread volatile unsigned seen;

static void must(int holds, const char *what)
{
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* As many whole messages as the buffer takes, and at least one. */
static char *messages(size_t *bytes)
{
    size_t count = buffer_size / size > 0 ? buffer_size / size : 1;
    uint32_t length = htonl((uint32_t)size - 4);
    char *made = calloc(count, size);
    for (size_t i = 0; i < count; i++)
        memcpy(made + i * size, &length, 4);
    *bytes = count * size;
    return made;
}

/* Bytes back and forth, after which a connection between two ends that are to move to shared memory has moved. */
static void greet(int fd, int begins)
{
    char byte = 0;
    for (int i = 0; i < greetings; i++)
        must((!begins || send(fd, &byte, 1, 0) == 1) && recv(fd, &byte, 1, 0) == 1 &&
                 (begins || send(fd, &byte, 1, 0) == 1),
             "greet");
}

/* The far end. */

static void *flood(void *argument)
{
    int fd = (int)(intptr_t)argument;
    size_t bytes;
    char *buffer = messages(&bytes);
    for (;;)
        for (size_t at = 0; at < bytes;) {
            ssize_t n = send(fd, buffer + at, bytes - at, MSG_NOSIGNAL);
            if (n <= 0)
                return NULL;
            at += (size_t)n;
        }
}

static void *sink(void *argument)
{
    char *buffer = malloc(buffer_size);
    while (recv((int)(intptr_t)argument, buffer, buffer_size, 0) > 0)
        ;
    return NULL;
}

static void *echo(void *argument)
{
    int fd = (int)(intptr_t)argument;
    char *buffer = malloc(size);
    while (recv(fd, buffer, size, MSG_WAITALL) == (ssize_t)size && send(fd, buffer, size, MSG_NOSIGNAL) > 0)
        ;
    return NULL;
}

static void far_end(void *(*act)(void *))
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    must(bind(listener, (void *)&at, sizeof at) == 0 && listen(listener, 16) == 0, "listen");
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        must(fd >= 0, "accept");
        greet(fd, 0);
        must(pthread_create(&thread, NULL, act, (void *)(intptr_t)fd) == 0, "pthread_create");
    }
}

/* The near end. */

static int connection(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(connect(fd, (void *)&at, sizeof at) == 0, "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    greet(fd, 1);
    return fd;
}

static void attach(int kcm)
{
    struct kcm_attach attach = {.fd = connection(), .bpf_fd = -1};
    must(ioctl(kcm, SIOCKCMATTACH, &attach) == 0, "attach");
}

/* A KCM socket with one connection. */
static int kcm(void)
{
    int fd = socket(AF_KCM, SOCK_DGRAM, KCMPROTO_CONNECTED);
    must(fd >= 0, "socket");
    attach(fd);
    return fd;
}

static unsigned long read_and_split(int fd, char *buffer)
{
    static __thread size_t have;
    ssize_t n = recv(fd, buffer + have, buffer_size - have, 0);
    must(n > 0, "recv");
    have += (size_t)n;
    unsigned long count = 0;
    size_t at = 0;
    for (uint32_t length; have - at >= 4; at += length) {
        memcpy(&length, buffer + at, 4);
        length = ntohl(length) + 4;
        if (length > have - at)
            break;
        seen += (unsigned char)buffer[at + 4];
        count++;
    }
    memmove(buffer, buffer + at, have -= at);
    return count;
}

static unsigned long read_twice(int fd, char *buffer)
{
    uint32_t length;
    must(recv(fd, &length, 4, MSG_WAITALL) == 4, "recv");
    length = ntohl(length);
    must(recv(fd, buffer, length, MSG_WAITALL) == (ssize_t)length, "recv");
    seen += (unsigned char)buffer[0];
    return 1;
}

static unsigned long receive_one(int fd, char *buffer)
{
    must(recv(fd, buffer, size, 0) == (ssize_t)size, "recv");
    seen += (unsigned char)buffer[4];
    return 1;
}

static unsigned long receive_up_to(unsigned count, int fd, char *buffer)
{
    static __thread struct mmsghdr headers[most];
    static __thread struct iovec parts[most];
    for (unsigned i = 0; i < count && !headers[i].msg_hdr.msg_iov; i++) {
        parts[i] = (struct iovec){buffer + (size_t)i * size, size};
        headers[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    int n = recvmmsg(fd, headers, count, MSG_WAITFORONE, NULL);
    must(n > 0, "recvmmsg");
    for (int i = 0; i < n; i++)
        seen += ((unsigned char *)parts[i].iov_base)[4];
    return (unsigned long)n;
}

static unsigned long receive_many(int fd, char *buffer)
{
    return receive_up_to(many, fd, buffer);
}

static unsigned long receive_most(int fd, char *buffer)
{
    return receive_up_to(most, fd, buffer);
}

static unsigned long there_and_back(int fd, char *buffer)
{
    must(send(fd, buffer, size, 0) == (ssize_t)size && recv(fd, buffer, size, 0) == (ssize_t)size, "ping");
    return 1;
}

static unsigned long send_one(int fd, char *buffer)
{
    must(send(fd, buffer, size, 0) == (ssize_t)size, "send");
    return 1;
}

static unsigned long write_vector(int fd, char *buffer)
{
    struct iovec parts[many];
    for (int i = 0; i < many; i++)
        parts[i] = (struct iovec){buffer + (size_t)i * size, size};
    must(writev(fd, parts, many) == (ssize_t)(many * size), "writev");
    return many;
}

static unsigned long send_many(int fd, char *buffer)
{
    static struct mmsghdr headers[many];
    static struct iovec parts[many];
    for (int i = 0; i < many; i++) {
        parts[i] = (struct iovec){buffer + (size_t)i * size, size};
        headers[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    int n = sendmmsg(fd, headers, many, 0);
    must(n > 0, "sendmmsg");
    return (unsigned long)n;
}

static unsigned long send_batch(int fd, char *buffer)
{
    for (int i = 0; i < many; i++)
        must(send(fd, buffer, size, i + 1 < many ? MSG_BATCH : 0) == (ssize_t)size, "send");
    return many;
}

static const struct mode {
    const char *name;
    int with_kcm, threads;
    unsigned long (*step)(int fd, char *buffer);
} modes[] = {
    {"split", 0, 1, read_and_split},       {"twice", 0, 1, read_twice},
    {"ping", 0, 1, there_and_back},        {"send", 0, 1, send_one},
    {"writev", 0, 1, write_vector},        {"split-4", 0, 4, read_and_split},
    {"kcm-mmsg", 1, 1, receive_many},      {"kcm-recv", 1, 1, receive_one},
    {"kcm-ping", 1, 1, there_and_back},    {"kcm-send", 1, 1, send_one},
    {"kcm-sendmmsg", 1, 1, send_many},     {"kcm-batch", 1, 1, send_batch},
    {"kcm-mmsg-4", 1, 4, receive_many},
    {"kcm-mmsg-most", 1, 1, receive_most},
};

static const struct mode *mode;
static _Atomic unsigned long counts[4];

struct work {
    int fd, place;
};

static void *work(void *argument)
{
    struct work it = *(struct work *)argument;
    size_t bytes;
    char *buffer = messages(&bytes);
    buffer = realloc(buffer, bytes + buffer_size + most * size);
    for (;;)
        counts[it.place] += mode->step(it.fd, buffer);
    return NULL;
}

static unsigned long all(void)
{
    return counts[0] + counts[1] + counts[2] + counts[3];
}

static void near_end(void)
{
    struct work works[4];
    int first = mode->with_kcm ? kcm() : -1;
    for (int i = 0; i < mode->threads; i++) {
        struct kcm_clone clone = {.fd = first};
        if (mode->with_kcm && i > 0) {
            attach(first);
            must(ioctl(first, SIOCKCMCLONE, &clone) == 0, "clone");
        }
        works[i] = (struct work){mode->with_kcm ? clone.fd : connection(), i};
    }
    pthread_t thread;
    for (int i = 0; i < mode->threads; i++)
        must(pthread_create(&thread, NULL, work, &works[i]) == 0, "pthread_create");
    usleep(warm_up_ms * 1000);
    double from = seconds(), used = cpu_seconds();
    unsigned long before = all();
    usleep(measured_ms * 1000);
    double count = (double)(all() - before), rate = count / (seconds() - from);
    printf("%.6g %.6g\n", mode->step == there_and_back ? 1e6 / rate : rate, (cpu_seconds() - used) * 1e9 / count);
}

int main(int count, char **words)
{
    if (count < 4)
        return 2;
    port = atoi(words[2]);
    size = strtoul(words[count - 1], NULL, 10);
    if (strcmp(words[1], "far") == 0)
        far_end(strcmp(words[3], "flood") == 0 ? flood : strcmp(words[3], "sink") == 0 ? sink : echo);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(words[1], modes[i].name) == 0)
            mode = &modes[i];
    must(mode != NULL, "mode");
    near_end();
    /* Threads are still at it. */
    fflush(stdout);
    _exit(0);
}
