/* Processes that share a mux, and descriptors that go. */
#define _GNU_SOURCE
#include "moved.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void serve(int kcm, int place)
{
    if (place > 0) {
        int clone = clone_of(kcm);
        close(kcm);
        kcm = clone;
    }
    for (;;) {
        ssize_t got = recv(kcm, buffer, sizeof buffer, 0);
        if (got <= 0 || send(kcm, buffer, (size_t)got, 0) != got)
            _exit(1);
    }
}

/* Workers that share a mux answer; some of them are killed, and replaced. */
void workers(void)
{
    enum { count = 3 };
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 0, &peer);
    pid_t pids[count];
    for (int i = 0; i < count; i++)
        if ((pids[i] = fork()) == 0)
            serve(kcm, i);
    close(peer.tcp);
    close(kcm);
    CHECK(ask(&peer, ECHO, 20000, 700) == 20000);
    CHECK(ask(&peer, ECHO, 300, 40000) == 300);
    for (int i = 0; i < count - 1; i++) {
        CHECK(kill(pids[i], SIGKILL) == 0 && waitpid(pids[i], NULL, 0) == pids[i]);
        CHECK(ask(&peer, ECHO, 3000, 700) == 3000);
    }
    CHECK(kill(pids[count - 1], SIGKILL) == 0 && waitpid(pids[count - 1], NULL, 0) == pids[count - 1]);
    printf("all were answered, and it ends: %ld\n", ask(&peer, ENDED, 0, 0));
}

/* Children that have the mux come and go, more than there are places for waiters. The last one goes on alone. */
void generations(void)
{
    enum { count = 1100, step = 20 };
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 0, &peer);
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        CHECK(waitpid(child, NULL, 0) == child);
        if (i % step == 0) {
            tell(&peer, SAY, i, 3000);
            expect(kcm, i, 3000);
            CHECK(answer(&peer) == 0);
        }
    }
    pid_t child = fork();
    if (child == 0)
        serve(kcm, 0);
    close(kcm);
    close(peer.tcp);
    CHECK(ask(&peer, ECHO, 3000, 700) == 3000);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    printf("the last one answered\n");
}

/* The connection lives until the mux lets go of it. */
void closed(void)
{
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 1, &peer);
    int copy = dup(peer.tcp);
    close(peer.tcp);
    CHECK(ask(&peer, SAY, 1, 3000) == 0);
    expect(kcm, 1, 3000);
    close(copy);
    for (long i = 0; i < 50; i++) {
        tell(&peer, SAY, i, 3000);
        expect(kcm, i, 3000);
        say(kcm, i, 2000);
        CHECK(answer(&peer) == 0 && ask(&peer, HEAR, i, 2000) == 1);
    }
    pid_t child = fork();
    if (child == 0) {
        expect(kcm, 1, 3000);
        say(kcm, 3, 2000);
        _exit(0);
    }
    CHECK(ask(&peer, SAY, 1, 3000) == 0 && ask(&peer, HEAR, 3, 2000) == 1);
    CHECK(waitpid(child, NULL, 0) == child);
    tell(&peer, ENDED, 0, 0);
    close(kcm);
    printf("it ends: %ld\n", answer(&peer));
}
