/* Helpers, and the choice of a case. */
#define _GNU_SOURCE
#include "scenario.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

void fact(const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%s: ", name);
    vprintf(format, args);
    putchar('\n');
    fflush(stdout);
}

const char *result(long value)
{
    static __thread char texts[8][32];
    static __thread unsigned next;
    char *text = texts[next++ % 8];
    if (value >= 0)
        snprintf(text, sizeof *texts, "%ld", value);
    else
        snprintf(text, sizeof *texts, "%s", strerrorname_np(errno));
    return text;
}

static void must(int holds, const char *what)
{
    if (!holds) {
        fact("broken", "%s: %s", what, strerror(errno));
        exit(1);
    }
}

void wait_ms(int milliseconds)
{
    poll(NULL, 0, milliseconds);
}

void connect_pair(int *near, int *far)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(bind(listener, (void *)&at, sizeof at) == 0 && listen(listener, 1) == 0, "listen");
    getsockname(listener, (void *)&at, &size);
    *far = socket(AF_INET, SOCK_STREAM, 0);
    must(connect(*far, (void *)&at, sizeof at) == 0, "connect");
    *near = accept(listener, NULL, NULL);
    must(*near >= 0, "accept");
    setsockopt(*far, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    close(listener);
}

int attach(int kcm, int near, int program)
{
    struct kcm_attach attach = {.fd = near, .bpf_fd = program};
    return ioctl(kcm, SIOCKCMATTACH, &attach);
}

struct scene scene(int type)
{
    struct scene made = {.kcm = socket(AF_KCM, type, KCMPROTO_CONNECTED)};
    must(made.kcm >= 0, "socket");
    connect_pair(&made.near, &made.far);
    must(attach(made.kcm, made.near, -1) == 0, "attach");
    return made;
}

int clone_of(int kcm)
{
    struct kcm_clone clone = {0};
    must(ioctl(kcm, SIOCKCMCLONE, &clone) == 0, "clone");
    return clone.fd;
}

void far_sends(int far, size_t size)
{
    uint32_t length = htonl((uint32_t)size - 4);
    char *bytes = calloc(1, size);
    memcpy(bytes, &length, 4);
    must(send(far, bytes, size, 0) == (ssize_t)size, "send");
    free(bytes);
}

const char *next_message(int kcm)
{
    static char buffer[1 << 20];
    struct pollfd entry = {.fd = kcm, .events = POLLIN};
    return poll(&entry, 1, 2000) == 0 ? "none" : result(recv(kcm, buffer, sizeof buffer, MSG_DONTWAIT));
}

void wait_until_asleep(pid_t thread)
{
    char path[64], state[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)thread);
    for (int tries = 0; tries < 5000; tries++) {
        FILE *file = fopen(path, "r");
        int asleep = file && fgets(state, sizeof state, file) && strncmp(state, "running", 7) != 0 &&
                     strtol(state, NULL, 10) != 202 /* futex */;
        if (file)
            fclose(file);
        if (asleep)
            return;
        wait_ms(1);
    }
    fact("broken", "the thread does not sleep");
}

static void *call(void *argument)
{
    struct caller *caller = argument;
    static __thread char buffer[1 << 16];
    uint32_t length = htonl(sizeof buffer - 4);
    memcpy(buffer, &length, 4);
    caller->thread = gettid();
    caller->result = caller->sends ? send(caller->kcm, buffer, sizeof buffer, MSG_EOR)
                                   : recv(caller->kcm, buffer, sizeof buffer, 0);
    caller->error = errno;
    return NULL;
}

void start(struct caller *caller)
{
    pthread_t thread;
    must(pthread_create(&thread, NULL, call, caller) == 0, "pthread_create");
    caller->id = thread;
    while (!*(volatile pid_t *)&caller->thread)
        wait_ms(1);
}

const char *ended(struct caller *caller)
{
    struct timespec until;
    void *answer;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 3;
    if (pthread_timedjoin_np(caller->id, &answer, &until) != 0)
        return "hangs";
    errno = caller->error;
    return answer == PTHREAD_CANCELED ? "cancelled" : result(caller->result);
}

int main(int count, char **words)
{
    const struct scenario *all[] = {signal_scenarios, end_scenarios, limit_scenarios, peer_scenarios};
    for (size_t i = 0; count == 2 && i < sizeof all / sizeof *all; i++)
        for (const struct scenario *it = all[i]; it->name; it++)
            if (strcmp(it->name, words[1]) == 0) {
                it->run();
                return 0;
            }
    return 2;
}
