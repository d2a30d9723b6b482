/* Handlers that come in anywhere. */
#define _GNU_SOURCE
#include "scenario.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { small = 16 };

static struct scene the;
static volatile sig_atomic_t sent, refused, calls, other_error;
static char message[small];

static void send_in_handler(int signal)
{
    (void)signal;
    int before = errno;
    calls++;
    if (send(the.kcm, message, small, MSG_DONTWAIT) == small)
        sent++;
    else if (errno == EAGAIN)
        refused++;
    else
        other_error = errno;
    errno = before;
}

static void set_handler(int signal, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(signal, &action, NULL);
}

static void *count_bytes(void *argument)
{
    char buffer[4096];
    ssize_t n;
    while ((n = recv(the.far, buffer, sizeof buffer, 0)) > 0)
        *(long *)argument += n;
    return NULL;
}

static void *send_forever(void *argument)
{
    (void)argument;
    char buffer[16 * small] = {0};
    for (int i = 0; i < 16; i++)
        memcpy(buffer + i * small, message, small);
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    while (send(the.far, buffer, sizeof buffer, MSG_NOSIGNAL) > 0)
        ;
    return NULL;
}

/* A timer's handler sends on the socket that the thread sends and receives on, wherever it comes in. */
static void send_while_inside(void)
{
    the = scene(SOCK_DGRAM);
    uint32_t length = htonl(small - 4);
    memcpy(message, &length, 4);
    long bytes = 0, own = 0;
    pthread_t counter, sender;
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, NULL);
    pthread_create(&counter, NULL, count_bytes, &bytes);
    pthread_create(&sender, NULL, send_forever, NULL);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
    set_handler(SIGALRM, send_in_handler, SA_RESTART);
    struct itimerval timer = {{0, 50}, {0, 50}}, off = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &timer, NULL);
    time_t end = time(NULL) + 3;
    char buffer[64];
    long wrong = 0;
    while (time(NULL) < end)
        for (int i = 0; i < 1000; i++) {
            own += send(the.kcm, message, small, 0) == small;
            wrong += recv(the.kcm, buffer, sizeof buffer, 0) != small;
        }
    setitimer(ITIMER_REAL, &off, NULL);
    int kcm = the.kcm;
    wait_ms(500);
    shutdown(the.far, SHUT_RDWR);
    pthread_join(counter, NULL);
    close(kcm);
    fact("handlers", "%s", calls > 1000 ? "many" : "few");
    fact("errors beside EAGAIN", "%s", result(other_error ? (errno = other_error, -1) : 0));
    fact("receives", "%s", wrong ? "wrong" : "right");
    fact("arrived", "%s", bytes == (own + sent) * small ? "all" : "not all");
}

/* A handler sends while the thread sleeps in recv, which goes on. */
static void send_while_asleep(void)
{
    the = scene(SOCK_SEQPACKET);
    set_handler(SIGUSR1, send_in_handler, SA_RESTART);
    struct caller caller = {.kcm = the.kcm};
    start(&caller);
    for (int i = 0; i < 3; i++) {
        wait_until_asleep(caller.thread);
        pthread_kill(caller.id, SIGUSR1);
        for (int tries = 0; calls == i && tries < 3000; tries++)
            wait_ms(1);
    }
    fact("handlers", "%d", (int)calls);
    far_sends(the.far, 8);
    fact("recv", "%s", ended(&caller));
}

static void interrupt(void)
{
    the = scene(SOCK_DGRAM);
    set_handler(SIGUSR1, send_in_handler, 0);
    struct caller caller = {.kcm = the.kcm};
    start(&caller);
    wait_until_asleep(caller.thread);
    pthread_kill(caller.id, SIGUSR1);
    fact("recv", "%s", ended(&caller));
    far_sends(the.far, 8);
    fact("message after it", "%s", next_message(the.kcm));
}

const struct scenario signal_scenarios[] = {
    {"send-while-inside", send_while_inside},
    {"send-while-asleep", send_while_asleep},
    {"interrupt", interrupt},
    {0},
};
