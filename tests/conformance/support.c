/* Facts and their words. */
#define _GNU_SOURCE
#include "conformance.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { text_size = 2048, texts = 64, longest_quoted = 64 };

const int types[2] = {SOCK_DGRAM, SOCK_SEQPACKET};

const char *type_name(int type)
{
    return type == SOCK_DGRAM ? "dgram" : "seq";
}

static char *next_text(void)
{
    static __thread char ring[texts][text_size];
    static __thread unsigned next;
    return ring[next++ % texts];
}

const char *text(const char *format, ...)
{
    char *to = next_text();
    va_list args;
    va_start(args, format);
    vsnprintf(to, text_size, format, args);
    va_end(args);
    return to;
}

void die(const char *what)
{
    fact("broken", "%s: %s", what, error_name(errno));
    fflush(stdout);
    _exit(1);
}

const char *error_name(int error)
{
    const char *name = error == 0 ? "0" : strerrorname_np(error);
    return name ? name : text("%d", error);
}

const char *result(long value)
{
    return value == -1 ? text("-1/%s", error_name(errno)) : text("%ld", value);
}

const char *made(int fd)
{
    return fd < 0 ? result(fd) : "fd";
}

const char *quoted(const void *data, size_t length)
{
    const unsigned char *bytes = data;
    if (length > longest_quoted) {
        uint32_t sum = 2166136261u;
        for (size_t i = 0; i < length; i++)
            sum = (sum ^ bytes[i]) * 16777619u;
        return text("<%zu bytes, FNV %08x>", length, sum);
    }
    char *start = next_text(), *to = start;
    *to++ = '"';
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] >= ' ' && bytes[i] < 127 && bytes[i] != '"' && bytes[i] != '\\')
            *to++ = (char)bytes[i];
        else
            to += sprintf(to, "\\x%02x", bytes[i]);
    }
    strcpy(to, "\"");
    return start;
}

struct word {
    unsigned bit;
    const char *name;
};

static const char *words(unsigned bits, const struct word *list, size_t count)
{
    char *start = next_text(), *to = start;
    for (size_t i = 0; i < count; i++) {
        if (bits & list[i].bit)
            to += sprintf(to, "%s%s", to == start ? "" : "|", list[i].name);
        bits &= ~list[i].bit;
    }
    if (bits || to == start)
        sprintf(to, bits ? "%s%#x" : "%s0", to == start || !bits ? "" : "|", bits);
    return start;
}

const char *events(unsigned value)
{
    static const struct word list[] = {{EPOLLIN, "IN"},   {EPOLLPRI, "PRI"},  {EPOLLOUT, "OUT"},    {EPOLLERR, "ERR"},
                                       {EPOLLHUP, "HUP"}, {POLLNVAL, "NVAL"}, {EPOLLRDHUP, "RDHUP"}};
    return words(value & (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLERR | EPOLLHUP | POLLNVAL | EPOLLRDHUP), list,
                 LENGTH_OF(list));
}

const char *message_flags(unsigned value)
{
    static const struct word list[] = {
        {MSG_EOR, "EOR"}, {MSG_TRUNC, "TRUNC"}, {MSG_CTRUNC, "CTRUNC"}, {MSG_CMSG_CLOEXEC, "CMSG_CLOEXEC"}};
    return words(value, list, LENGTH_OF(list));
}

long milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The kernel does KCM's work itself. Without the module a thread of this process does, which has been woken by then, but may
   still be waiting for a processor. */
int others_run(void)
{
    int run = 0;
    DIR *threads = opendir("/proc/self/task");
    for (struct dirent *thread; threads && (thread = readdir(threads));) {
        char path[64], state = 0;
        int id = atoi(thread->d_name);
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", id);
        FILE *stat = id == 0 || id == gettid() ? NULL : fopen(path, "r");
        run |= stat && fscanf(stat, "%*d (%*[^)]) %c", &state) == 1 && state != 'S';
        if (stat)
            fclose(stat);
    }
    if (threads)
        closedir(threads);
    return run;
}

void settle(void)
{
    usleep(quiet * 1000);
    for (int tries = 0; others_run() && tries < 1000; tries++)
        usleep(1000);
}
