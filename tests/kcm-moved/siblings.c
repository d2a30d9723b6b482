/* Connections that a mux gets when other processes have it already. */
#define _GNU_SOURCE
#include "serve.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child that gives back what it receives, and may not have the TCP socket. */
static pid_t worker(int kcm, int without)
{
    pid_t child = fork();
    if (child)
        return child;
    if (without >= 0)
        close(without);
    for (;;) {
        ssize_t got = recv(kcm, buffer, sizeof buffer, 0);
        if (got <= 0 || send(kcm, buffer, (size_t)got, 0) != got)
            _exit(1);
    }
}

/* A child that attaches, and stays until it is killed. */
static pid_t attacher(int kcm, int tcp)
{
    int ready[2];
    char byte;
    CHECK(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(attach(kcm, tcp) == 0 && write(ready[1], "x", 1) == 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    return child;
}

/* Who was there before has what another one attaches, and goes on with it alone. */
void found(void)
{
    for (int connects = 0; connects < 2; connects++) {
        struct peer peer = peer_of(connects, 200000);
        int kcm = kcm_socket(SOCK_DGRAM);
        pid_t first = worker(kcm, -1), second = worker(kcm, peer.tcp), other = attacher(kcm, peer.tcp);
        close(kcm);
        close(peer.tcp);
        CHECK(ask(&peer, ECHO, 5000, 700) == 5000 && ask(&peer, ECHO, 100, 15000) == 100);
        end(other);
        CHECK(ask(&peer, ECHO, 5000, 700) == 5000);
        end(first);
        CHECK(ask(&peer, ECHO, 5000, 700) == 5000);
        end(second);
        printf("all were answered, and it ends: %ld\n", ask(&peer, ENDED, 0, 0));
    }
}

static void change(int forks)
{
    enum { rounds = 40 };
    int over = 0;
    pthread_t thread;
    struct peer peer = peer_of(1, 200000);
    int kcm = kcm_socket(SOCK_DGRAM);
    if (forks)
        CHECK(pthread_create(&thread, NULL, fork_forever, &over) == 0);
    for (long i = 0; i < rounds; i++) {
        pid_t child = attacher(kcm, peer.tcp);
        CHECK(ask(&peer, SAY, i, 3000) == 0);
        expect(kcm, i, 3000);
        say(kcm, i, 2000);
        CHECK(ask(&peer, HEAR, i, 2000) == 1);
        if (i % 2)
            end(child);
        CHECK(unattach(kcm, peer.tcp) == 0);
        if (i % 2 == 0)
            end(child);
        CHECK(ask(&peer, SAY, i, 100) == 0 && recv(peer.tcp, buffer, 100, MSG_WAITALL) == 100);
        CHECK(is_message(buffer, i, 100) && send(peer.tcp, buffer, 100, 0) == 100 && ask(&peer, HEAR, i, 100) == 1);
    }
    __atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
    if (forks)
        CHECK(pthread_join(thread, NULL) == 0);
    tell(&peer, ENDED, 0, 0);
    close(peer.tcp);
    printf("it ends: %ld\n", answer(&peer));
    close(kcm);
}

/* A connection is attached and unattached by ever other processes, and is then what it was. */
void changing(void)
{
    change(0);
}

/* The same while a thread of the process that finds it attached forks all the time. */
void forking(void)
{
    change(1);
}
