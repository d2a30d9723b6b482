/* sendfile, splice, tee and what they make of messages. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

static int file_of(const char *bytes, size_t length)
{
    int fd = memfd_create("conformance", 0);
    if (write(fd, bytes, length) != (ssize_t)length || lseek(fd, 0, SEEK_SET))
        die("file");
    return fd;
}

static void send_files(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        int file = file_of("0123456789", 10);
        off_t offset = 2;
        const char *sent = result(sendfile(s.k, file, &offset, 3));
        fact(text("%s part of a file", type), "%s offset %ld peer %s", sent, (long)offset, stream(s.tcp.peer));
        sent = result(sendfile(s.k, file, NULL, 100));
        fact(text("%s to its end", type), "%s peer %s", sent, stream(s.tcp.peer));
        sent = result(sendfile(s.k, file, NULL, 100));
        fact(text("%s at its end", type), "%s peer %s", sent, stream(s.tcp.peer));
        send(s.k, "<", 1, MSG_MORE);
        offset = 0;
        sent = result(sendfile(s.k, file, &offset, 4));
        fact(text("%s into an open message", type), "%s peer %s", sent, stream(s.tcp.peer));
        send(s.k, ">", 1, MSG_EOR);
        fact(text("%s closed then", type), "%s", stream(s.tcp.peer));
        fact(text("%s from a KCM socket", type), "%s", result(sendfile(s.tcp.near, s.k, NULL, 4)));
        close(file);
    }
}

static void large_file(void)
{
    enum { size = 300000 };
    char *bytes = malloc(size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)(i * 7);
    int file = file_of(bytes, size);
    int k = kcm(SOCK_DGRAM);
    struct tcp tcp = tcp_pair(), second = tcp_pair();
    attach(k, tcp.near, parser_be32());
    attach(k, second.near, parser_be32());
    size_t sent = 0;
    for (ssize_t n; sent < size && (n = sendfile(k, file, NULL, size - sent)) > 0; sent += (size_t)n)
        settle();
    char *first = malloc(size), *other = malloc(size);
    size_t one = swallow(tcp.peer, first, size), two = swallow(second.peer, other, size);
    fact("sent", "%zu", sent);
    fact("arrived", "%zu", one + two);
    fact("whole on one of two", "%d",
         (one == size && !memcmp(first, bytes, size)) || (two == size && !memcmp(other, bytes, size)));
}

static void splice_in(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        int ends[2];
        if (pipe(ends))
            die("pipe");
        if (write(ends[1], "piped", 5) != 5)
            die("write");
        const char *sent = result(splice(ends[0], NULL, s.k, NULL, 5, 0));
        fact(text("%s", type), "%s peer %s", sent, stream(s.tcp.peer));
        if (write(ends[1], "more", 4) != 4)
            die("write");
        sent = result(splice(ends[0], NULL, s.k, NULL, 4, SPLICE_F_MORE));
        fact(text("%s more", type), "%s peer %s", sent, stream(s.tcp.peer));
        if (write(ends[1], "two", 3) != 3 || write(ends[1], "bufs", 4) != 4)
            die("write");
        sent = result(splice(ends[0], NULL, s.k, NULL, 7, 0));
        fact(text("%s two buffers", type), "%s peer %s", sent, stream(s.tcp.peer));
        loff_t offset = 0;
        fact(text("%s with an offset", type), "%s", result(splice(ends[0], NULL, s.k, &offset, 4, 0)));
    }
}

static const char *piped(int fd)
{
    char buffer[64];
    fcntl(fd, F_SETFL, O_NONBLOCK);
    ssize_t got = read(fd, buffer, sizeof buffer);
    return got < 0 ? result(got) : quoted(buffer, (size_t)got);
}

static void splice_out(void)
{
    static const struct {
        const char *name;
        unsigned flags;
        size_t length;
    } list[] = {{"whole", 0, 64},
                {"3 of 8", 0, 3},
                {"whole, nonblock", SPLICE_F_NONBLOCK, 64},
                {"3 of 8, nonblock", SPLICE_F_NONBLOCK, 3}};
    for (int i = 0; i < 2; i++) {
        for (size_t n = 0; n < LENGTH_OF(list); n++) {
            struct scene s = scene(types[i]);
            int ends[2];
            const char *name = text("%s %s", type_name(types[i]), list[n].name);
            if (pipe(ends))
                die("pipe");
            send_message(s.tcp.peer, 's', 4);
            polled_for(s.k, POLLIN, quiet);
            const char *moved = result(splice(s.k, NULL, ends[1], NULL, list[n].length, list[n].flags));
            fact(name, "%s pipe %s", moved, piped(ends[0]));
            fact(text("%s, then", name), "%s", receive(s.k, 64, 0));
            fact(text("%s, after", name), "%s", receive(s.k, 64, 0));
        }
    }
}

/* An empty socket and splice: who waits, and who does not. */
static void splice_nothing(void)
{
    static const struct {
        const char *name;
        int mode;
        unsigned flags;
    } list[] = {{"blocking", 0, 0},
                {"O_NONBLOCK", O_NONBLOCK, 0},
                {"SPLICE_F_NONBLOCK", 0, SPLICE_F_NONBLOCK},
                {"both", O_NONBLOCK, SPLICE_F_NONBLOCK}};
    for (int i = 0; i < 2; i++) {
        for (size_t n = 0; n < LENGTH_OF(list); n++) {
            struct scene s = scene(types[i]);
            int ends[2];
            if (pipe(ends))
                die("pipe");
            fcntl(s.k, F_SETFL, O_RDWR | list[n].mode);
            pid_t pid = child();
            if (pid == 0) {
                ssize_t moved = splice(s.k, NULL, ends[1], NULL, 16, list[n].flags);
                _exit(moved < 0 ? errno : 0);
            }
            int status = child_ended(pid, 400);
            fact(text("%s %s", type_name(types[i]), list[n].name), "%s", status < 0 ? "waits" : error_name(status));
        }
    }
}

static const struct test_case cases[] = {{"sendfile", send_files},           {"large_file", large_file},
                                         {"splice_in", splice_in},           {"splice_out", splice_out},
                                         {"splice_nothing", splice_nothing}, {0}};
const struct group group_transfer = {"transfer", cases};
