/* Programs that take the place of others, and go on with their KCM sockets. */
#define _GNU_SOURCE
#include "serve.h"

#include <errno.h>
#include <fcntl.h>
#include <preloop/kcm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The program alone has the mux; the TCP socket it may have as well. */
void executes(void)
{
    for (int n = 0; n < 2 * ways; n++) {
        struct peer peer;
        int kcm = attached(n % 2 ? SOCK_SEQPACKET : SOCK_DGRAM, n / ways, &peer), tcp = dup(peer.tcp);
        pid_t child = alone_with(kcm, &peer.tcp, 1);
        if (child == 0) {
            if (n % 2)
                close(tcp);
            run_anew(kcm, "serve", n % ways);
            _exit(1);
        }
        close(tcp);
        CHECK(ask(&peer, ECHO, 3000, 700) == 3000 && ask(&peer, ECHO, 300, 10000) == 300);
        end(child);
        printf("all were answered, and it ends: %ld\n", ask(&peer, ENDED, 0, 0));
    }
}

/* Many programs one after the other, each of which answers once, while the next message may be there. */
void executes_in_turns(void)
{
    enum { turns = 25 };
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 1, &peer), status;
    pid_t child = alone_with(kcm, &peer.tcp, 1);
    if (child == 0) {
        run_anew(kcm, "turns", turns);
        _exit(1);
    }
    CHECK(ask(&peer, SAY, 0, 3000) == 0);
    for (long i = 0; i < turns; i++) {
        if (i + 1 < turns)
            CHECK(ask(&peer, SAY, i + 1, 3000) == 0);
        CHECK(ask(&peer, HEAR, i, 3000) == 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    printf("all were answered, and it ends: %ld\n", ask(&peer, ENDED, 0, 0));
}

/* Connections in shared memory and on TCP. */
void executes_mixed(void)
{
    struct peer moved = peer_of(1, 200000), plain = new_peer(0), other = peer_of(0, 200000);
    struct peer *peers[] = {&moved, &plain, &other};
    int kcm = kcm_socket(SOCK_DGRAM), tcp[] = {moved.tcp, plain.tcp, other.tcp}, on = 1;
    CHECK(setsockopt(kcm, SOL_KCM, KCM_ADDRESSES, &on, sizeof on) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(attach(kcm, tcp[i]) == 0);
    pid_t child = alone_with(kcm, tcp, 3);
    if (child == 0) {
        run_anew(kcm, "serve", EPOLL);
        _exit(1);
    }
    for (int i = 0; i < 3; i++)
        tell(peers[i], ECHO, 2000, 1000);
    for (int i = 0; i < 3; i++)
        printf("%ld were answered\n", answer(peers[i]));
    end(child);
}

/* A message is half there, one half gone, and one waits to be received. */
void executes_in_the_middle(void)
{
    for (int way = 0; way < ways; way++) {
        struct peer peer;
        int kcm = attached(SOCK_DGRAM, way % 2, &peer);
        CHECK(ask(&peer, SAY, 6, 9000) == 0 && ask(&peer, MUTTER, 7, 50000) == 0);
        pid_t child = alone_with(kcm, &peer.tcp, 1);
        if (child == 0) {
            fill(buffer, 9, 3 << 20);
            CHECK(polls(kcm, POLLIN, patience) && send(kcm, buffer, 3 << 20, MSG_DONTWAIT) == 3 << 20);
            run_anew(kcm, "serve", way);
            _exit(1);
        }
        CHECK(ask(&peer, HEAR, 9, 3 << 20) == 1 && ask(&peer, HEAR, 6, 9000) == 1);
        CHECK(ask(&peer, MUTTER, 7, 50000L << 32 | 100000) == 0);
        CHECK(ask(&peer, HEAR, 7, 100000) == 1);
        printf("all came through\n");
        end(child);
    }
}

static pid_t spawn(const char *file, int kcm, char **environment)
{
    char descriptor[16];
    char *words[] = {"kcm-moved", "serve", descriptor, "2", NULL};
    pid_t child;
    snprintf(descriptor, sizeof descriptor, "%d", kcm);
    CHECK(posix_spawn(&child, file, NULL, NULL, words, environment) == 0);
    return child;
}

/* Children run programs, by vfork and by posix_spawn, and this process keeps its mux. */
void executes_in_children(void)
{
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 1, &peer);
    pid_t first = vfork();
    if (first == 0) {
        run_anew(kcm, "serve", THREADS);
        _exit(1);
    }
    pid_t second = spawn("/proc/self/exe", kcm, environ);
    CHECK(ask(&peer, ECHO, 3000, 700) == 3000);
    end(first);
    CHECK(ask(&peer, ECHO, 3000, 700) == 3000);
    end(second);
    CHECK(ask(&peer, SAY, 1, 3000) == 0);
    expect(kcm, 1, 3000);
    say(kcm, 2, 3000);
    CHECK(ask(&peer, HEAR, 2, 3000) == 1);
    tell(&peer, ENDED, 0, 0);
    close(peer.tcp);
    close(kcm);
    printf("all were answered, and it ends: %ld\n", answer(&peer));
}

static void *serves(void *kcm)
{
    serve((int)(intptr_t)kcm, EPOLL);
}

/* What is no program, one that is not there, and one with too many arguments. */
static void fail_to_execute(void)
{
    static char much[200000];
    char *words[] = {"kcm-moved", NULL}, *many[64] = {"kcm-moved"};
    memset(much, 'x', sizeof much - 1);
    for (int i = 1; i < 63; i++)
        many[i] = much;
    int file = open("no-program", O_CREAT | O_WRONLY | O_TRUNC, 0700);
    CHECK(file >= 0 && write(file, "no program", 10) == 10 && close(file) == 0);
    CHECK(execv("./no-program", words) == -1 && errno == ENOEXEC);
    CHECK(execv("./not-there", words) == -1 && errno == ENOENT);
    CHECK(execv("/proc/self/exe", many) == -1 && errno == E2BIG);
}

/* The call fails again and again, while a thread serves; then there is one that does not. */
void executes_in_vain(void)
{
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 0, &peer);
    pid_t child = alone_with(kcm, &peer.tcp, 1);
    if (child == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, serves, (void *)(intptr_t)kcm) == 0);
        for (int i = 0; i < 100; i++) {
            fail_to_execute();
            usleep(1000);
        }
        run_anew(kcm, "serve", THREADS);
        _exit(1);
    }
    for (int i = 0; i < 10; i++)
        CHECK(ask(&peer, ECHO, 1000, 700) == 1000);
    end(child);
    printf("all were answered, and it ends: %ld\n", ask(&peer, ENDED, 0, 0));
}

/* A program without the library cannot use the socket. It takes nothing away from others, and when there are none the
 * connection ends. */
void executes_bare(void)
{
    char *words[] = {"true", NULL}, *nothing[] = {NULL};
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 1, &peer), status;
    pid_t child = fork();
    if (child == 0)
        _exit(execve("/bin/true", words, nothing));
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    child = spawn("/bin/true", kcm, nothing);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(ask(&peer, SAY, 1, 3000) == 0);
    expect(kcm, 1, 3000);
    say(kcm, 2, 3000);
    CHECK(ask(&peer, HEAR, 2, 3000) == 1);
    child = alone_with(kcm, &peer.tcp, 1);
    if (child == 0)
        _exit(execve("/bin/true", words, nothing));
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    printf("it ends: %ld\n", ask(&peer, ENDED, 0, 0));
}
