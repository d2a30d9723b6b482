/* Threads that are cancelled, that are rivals, or that a signal interrupts. */
#define _GNU_SOURCE
#include "scene.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* Whoever is cancelled in recv(2) holds the socket no longer. */
void cancelled_reader(void)
{
    int kcm = kcm_socket(SOCK_DGRAM), copy = clone_of(kcm);
    struct pair pair = attached(kcm);
    pthread_t thread = asleep_in(receive_one, &copy);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0);
    close(copy);
    char text[256];
    for (int n = 0; n < 4; n++) {
        put(pair.peer, "here");
        CHECK(get(kcm, text) == 4);
    }
}

/* The same of one that is cancelled in send(2). */
static void *send_all(void *argument)
{
    static char message[20000] = {0, 0, 0x4e, 0x1c};
    while (send(*(int *)argument, message, sizeof message, MSG_EOR) > 0)
        ;
    return NULL;
}

void cancelled_sender(void)
{
    int kcm = kcm_socket(SOCK_SEQPACKET), copy = clone_of(kcm);
    struct pair pair = attached(kcm);
    pthread_t thread = asleep_in(send_all, &copy);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0);
    close(copy);
    char text[256];
    put(pair.peer, "here");
    put(pair.peer, "here");
    CHECK(get(kcm, text) == 4 && get(kcm, text) == 4);
}

/* Of several threads that attach one TCP socket one succeeds. */
static int rivals[2];
static pthread_barrier_t barrier;
static int contended;

static void *attaches(void *argument)
{
    pthread_barrier_wait(&barrier);
    return (void *)(long)(attach(*(int *)argument, contended) == 0);
}

void attached_once(void)
{
    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
    rivals[0] = kcm_socket(SOCK_DGRAM);
    rivals[1] = kcm_socket(SOCK_DGRAM);
    for (int n = 0; n < 300; n++) {
        struct pair pair = connection();
        contended = pair.tcp;
        pthread_t threads[2];
        void *done[2];
        for (int m = 0; m < 2; m++)
            CHECK(pthread_create(&threads[m], NULL, attaches, n % 2 ? &rivals[m] : &rivals[0]) == 0);
        for (int m = 0; m < 2; m++)
            CHECK(pthread_join(threads[m], &done[m]) == 0);
        CHECK((long)done[0] + (long)done[1] == 1);
        CHECK((unattach(rivals[0], pair.tcp) == 0) + (unattach(rivals[1], pair.tcp) == 0) == 1);
        close(pair.tcp);
        close(pair.peer);
    }
}

/* A handler uses the same socket as the call that it comes into, and closes another one. */
static int handled, dropped;

static void handler(int signal)
{
    int before = errno;
    char text[256];
    (void)signal;
    recv(handled, text, sizeof text, MSG_DONTWAIT);
    if (dropped >= 0)
        close(dropped);
    dropped = -1;
    errno = before;
}

void signals(void)
{
    handled = kcm_socket(SOCK_DGRAM);
    struct pair pair = attached(handled);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval every = {{0, 211}, {0, 211}}, never = {{0, 0}, {0, 0}};
    char text[256];
    dropped = -1;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &every, NULL) == 0);
    for (long end = milliseconds() + 4000; milliseconds() < end;) {
        int copy = clone_of(handled);
        dropped = copy;
        while (dropped >= 0)
            recv(handled, text, sizeof text, MSG_DONTWAIT);
    }
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    for (int n = 0; n < 300; n++) {
        put(pair.peer, "here");
        CHECK(get(handled, text) == 4);
    }
}
