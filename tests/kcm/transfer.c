/* splice(2), and streams, on KCM sockets. */
#define _GNU_SOURCE
#include "scene.h"

#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
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
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, splices, fds) == 0);
    usleep(200000);
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
