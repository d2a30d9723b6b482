/* Facts in words, and calls that subjects and their peers need: what facts.h promises of them. */
#include "ends.h"

#include <ctype.h>
#include <stdarg.h>

#define CHUNK (1 << 16)

const char *name;

void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s: %s: %s\n", name, what, strerror(errno));
        _exit(3);
    }
}

void fact(const char *what, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char line[4096];
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    printf("%s.%s: %s\n", name, what, line);
    fflush(stdout);
}

static char *slot(void)
{
    static __thread char slots[16][320];
    static __thread int next;
    return slots[next++ % 16];
}

const char *error(int number)
{
    return number == 0 ? "none" : strerrorname_np(number);
}

const char *r(long result)
{
    if (result < 0)
        return error(errno);
    char *into = slot();
    snprintf(into, 320, "%ld", result);
    return into;
}

const char *bits(unsigned events)
{
    static const struct { unsigned bit; const char *name; } names[] = {
        {POLLIN, "IN"}, {POLLPRI, "PRI"}, {POLLOUT, "OUT"}, {POLLRDHUP, "RDHUP"}, {POLLERR, "ERR"}, {POLLHUP, "HUP"},
        {POLLNVAL, "NVAL"}, {POLLRDNORM, "RDNORM"}, {POLLWRNORM, "WRNORM"}, {POLLRDBAND, "RDBAND"}, {POLLWRBAND, "WRBAND"},
    };
    char *into = slot();
    *into = 0;
    for (size_t at = 0; at < sizeof names / sizeof *names; at++)
        if (events & names[at].bit)
            sprintf(into + strlen(into), "%s%s", *into ? "|" : "", names[at].name);
    return *into ? into : "0";
}

const char *text(long result, const void *bytes)
{
    if (result <= 0)
        return result < 0 ? error(errno) : "end";
    char *into = slot();
    int at = snprintf(into, 320, "%ld ", result);
    for (long byte = 0; byte < result && byte < 200; byte++)
        into[at++] = isprint(((const unsigned char *)bytes)[byte]) ? ((const char *)bytes)[byte] : '.';
    into[at] = 0;
    return into;
}

void nonblocking(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

void nap(int milliseconds)
{
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

pthread_t start(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    errno = pthread_create(&thread, NULL, run, argument);
    must(errno == 0, "a thread");
    return thread;
}

void handle(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    must(sigaction(number, &action, NULL) == 0, "sigaction");
}

void until_asleep(int tid)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    for (int turn = 0; turn < SOON; turn++) {
        FILE *file = fopen(path, "r");
        char *state = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
        if (file)
            fclose(file);
        if (!state || state[2] == 'S')
            break;
        nap(1);
    }
    /* It may have slept on something that it passed on the way. */
    nap(30);
}

void pattern(void *into, size_t offset, size_t count)
{
    for (size_t at = 0; at < count; at++)
        ((unsigned char *)into)[at] = (offset + at) * 2654435761u >> 15;
}

size_t matching(const void *bytes, size_t offset, size_t count)
{
    for (size_t at = 0; at < count; at++)
        if (((const unsigned char *)bytes)[at] != (unsigned char)((offset + at) * 2654435761u >> 15))
            return at;
    return count;
}

long fill_from(int fd, long *offset)
{
    char chunk[CHUNK];
    long sent = 0;
    size_t part = sizeof chunk;
    /* TCP passes on what lies in the sender's buffer for a while, and has room for a byte when it has none for many. */
    for (int idle = 0; idle < 6;) {
        pattern(chunk, *offset + sent, part);
        long done = send(fd, chunk, part, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (done < 0) {
            idle++;
            part = idle < 3 ? sizeof chunk : 1;
            nap(10);
        } else {
            idle = 0;
            sent += done;
        }
    }
    *offset += sent;
    return sent;
}

long fill(int fd)
{
    long offset = 0;
    return fill_from(fd, &offset);
}

long drain(int fd)
{
    char chunk[CHUNK];
    for (long total = 0;;) {
        long got = read(fd, chunk, sizeof chunk);
        if (got <= 0)
            return got < 0 ? -1 : total;
        total += got;
    }
}

unsigned looked(int fd, int milliseconds)
{
    struct pollfd entry = {fd, POLLIN | POLLPRI | POLLOUT | POLLRDHUP, 0};
    return poll(&entry, 1, milliseconds) < 0 ? POLLNVAL : (unsigned short)entry.revents;
}

int pending(int fd)
{
    int value = -1;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &size) < 0 ? errno : value;
}
