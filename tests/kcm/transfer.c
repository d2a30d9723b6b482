/* splice(2), and streams, on KCM sockets. */
#define _GNU_SOURCE
#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* From where, and to where. */
static void *splices(void *argument)
{
    int *fds = argument;
    while (splice(fds[0], NULL, fds[1], NULL, 4096, 0) > 0)
        ;
    return NULL;
}

static void cancel(int from, int to)
{
    int fds[2] = {from, to};
    void *result;
    pthread_t thread = asleep_in(splices, fds);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
}

/* Whoever is cancelled in splice(2) holds the socket no longer: asleep for a message, at an empty pipe, at a full one, and for
   room in the socket. */
void cancelled_splice(void)
{
    for (int n = 0; n < 5; n++) {
        int kcm = kcm_socket(n == 1 ? SOCK_SEQPACKET : SOCK_DGRAM), copy = clone_of(kcm), pipes[2], size = 1;
        struct pair pair = attached(kcm);
        static char bytes[65536];
        CHECK(pipe(pipes) == 0 && fcntl(pipes[1], F_SETPIPE_SZ, 65536) > 0);
        if (n == 1)
            CHECK(fcntl(copy, F_SETFL, O_NONBLOCK) == 0);
        if (n == 2 || n == 4)
            CHECK(write(pipes[1], bytes, sizeof bytes) == sizeof bytes);
        if (n == 4) {
            CHECK(unattach(kcm, pair.tcp) == 0);
            CHECK(setsockopt(copy, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
        }
        if (n <= 2)
            cancel(copy, pipes[1]);
        else
            cancel(pipes[0], copy);
        if (n == 4)
            CHECK(attach(kcm, pair.tcp) == 0);
        close(copy);
        close(pipes[0]);
        close(pipes[1]);
        for (int m = 0; m < 4; m++) {
            char text[256];
            put(pair.peer, "here");
            CHECK(get(kcm, text) == 4);
        }
        close(kcm);
    }
}

/* A stream on a KCM socket reads a message when it is empty, and sends one when it is flushed or closed. */
void streams(void)
{
    int kcm = kcm_socket(SOCK_DGRAM), status;
    struct pair pair = attached(kcm);
    FILE *in = fdopen(kcm, "r"), *out = fdopen(dup(kcm), "w");
    char bytes[16], text[256];
    CHECK(in && out && fileno(in) == kcm && fileno_unlocked(out) > kcm);
    put(pair.peer, "here");
    put(pair.peer, "then");
    CHECK(fread(bytes, 1, 16, in) == 16 && memcmp(bytes + 4, "here", 4) == 0 && memcmp(bytes + 12, "then", 4) == 0);
    CHECK(fwrite("\0\0\0\3one", 1, 7, out) == 7 && fflush(out) == 0 && get(pair.peer, text) == 3);
    CHECK(fwrite("\0\0\0\3two", 1, 7, out) == 7);
    pid_t child = fork();
    if (child == 0)
        _exit(fileno(in) != kcm);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(fclose(out) == 0 && get(pair.peer, text) == 3 && strcmp(text, "two") == 0);
    CHECK(freopen("/dev/null", "r", in) == NULL && errno == EOPNOTSUPP);
    CHECK(fclose(in) == 0 && fcntl(kcm, F_GETFD) == -1);
}
