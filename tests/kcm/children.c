/* What children do with what they inherit, or are passed. */
#define _GNU_SOURCE
#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child closes what a thread of its parent, which the child has not, was asleep on. */
void child_closes(void)
{
    int kcm = kcm_socket(SOCK_DGRAM), copy = clone_of(kcm);
    struct pair pair = attached(kcm);
    pthread_t thread = asleep_in(receive_one, &copy);
    int ready[2], go[2];
    CHECK(pipe(ready) == 0 && pipe(go) == 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(copy);
        CHECK(write(ready[1], "x", 1) == 1 && read(go[0], &byte, 1) == 1);
        _exit(0);
    }
    char byte, text[256];
    CHECK(read(ready[0], &byte, 1) == 1);
    put(pair.peer, "wake");
    CHECK(pthread_join(thread, NULL) == 0);
    close(copy);
    for (int n = 0; n < 4; n++) {
        put(pair.peer, "here");
        CHECK(get(kcm, text) == 4);
    }
    CHECK(write(go[1], "x", 1) == 1);
    ends(child);
}

/* A sender that sleeps in a child is woken whichever process finds room. */
void sender_in_child(void)
{
    for (int n = 0; n < 20; n++) {
        int kcm = kcm_socket(SOCK_SEQPACKET);
        struct pair pair = attached(kcm);
        pid_t child = fork();
        if (child == 0) {
            close(pair.peer);
            int own = clone_of(kcm);
            char *message = calloc(1, 100000);
            for (int m = 0; m < 80; m++)
                CHECK(send(own, message, 100000, MSG_EOR) == 100000);
            while (ioctl(pair.tcp, TIOCOUTQ, &n) == 0 && n > 0)
                usleep(1000);
            _exit(0);
        }
        until_asleep(child);
        char bytes[65536];
        long all = 0;
        while (all < 8000000) {
            ssize_t got = recv(pair.peer, bytes, sizeof bytes, 0);
            CHECK(got > 0);
            all += got;
        }
        ends(child);
        close(kcm);
        close(pair.tcp);
        close(pair.peer);
    }
}

/* A server keeps nothing of the sockets that it passed on and closed. */
void passed_on(void)
{
    int through[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, through) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(through[0]);
        for (int n = 0; n < 12; n++) {
            char text[256];
            int kcm = passed(through[1]);
            CHECK(get(kcm, text) == 2);
            close(kcm);
            CHECK(write(through[1], "x", 1) == 1);
        }
        _exit(0);
    }
    close(through[1]);
    int before = 0;
    for (int n = 0; n < 12; n++) {
        char byte;
        int kcm = kcm_socket(SOCK_DGRAM);
        struct pair pair = attached(kcm);
        put(pair.peer, "hi");
        pass(through[0], kcm);
        close(kcm);
        close(pair.tcp);
        CHECK(read(through[0], &byte, 1) == 1);
        close(pair.peer);
        if (n == 1)
            before = descriptors();
    }
    /* The last one's go a little later. */
    for (long end = milliseconds() + 10000; descriptors() > before; usleep(1000))
        CHECK(milliseconds() < end);
    ends(child);
}

/* A child that shares this process's memory runs another program. */
static int runs_true(void *nothing)
{
    (void)nothing;
    execl("/bin/true", "true", NULL);
    _exit(1);
}

void execs_in_shared_memory(void)
{
    static _Alignas(64) char stack[1 << 18];
    int kcm = kcm_socket(SOCK_DGRAM);
    struct pair pair = attached(kcm);
    char text[256];
    ends(clone(runs_true, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
    put(pair.peer, "here");
    CHECK(get(kcm, text) == 4);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    ends(child);
}

/* What a sibling has not taken yet is not lost when its owner takes something else away without a descriptor to spare. */
void none_to_spare(void)
{
    struct rlimit limit = {64, 64};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int kcm = kcm_socket(SOCK_DGRAM);
    struct pair pairs[3];
    for (int n = 0; n < 3; n++)
        pairs[n] = connection();
    pid_t owner = fork();
    if (owner == 0) {
        for (int n = 0; n < 3; n++)
            CHECK(attach(kcm, pairs[n].tcp) == 0);
        while (dup(0) >= 0)
            ;
        CHECK(unattach(kcm, pairs[2].tcp) == 0);
        _exit(0);
    }
    ends(owner);
    for (int n = 0; n < 2; n++) {
        char text[256];
        put(pairs[n].peer, "here");
        CHECK(get(kcm, text) == 4);
    }
}

/* A process may be ended by a handler, wherever that comes. */
static void exits(int signal)
{
    (void)signal;
    _exit(0);
}

void ended_by_handler(void)
{
    int kcm = kcm_socket(SOCK_DGRAM);
    attached(kcm);
    for (int n = 0; n < 200; n++) {
        pid_t child = fork();
        if (child == 0) {
            struct itimerval once = {.it_value = {0, 300 + n * 37 % 2000}};
            signal(SIGALRM, exits);
            setitimer(ITIMER_REAL, &once, NULL);
            for (;;) {
                pid_t grandchild = fork();
                if (grandchild == 0)
                    _exit(0);
                waitpid(grandchild, NULL, 0);
            }
        }
        ends(child);
    }
}

/* Somebody else's socket is not taken for one of the mux's, whatever name its other end has. */
static void forged(const char *name)
{
    int through[2], fake[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, through) == 0);
    pid_t child = fork();
    if (child == 0) {
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        memcpy(at.sun_path + 1, name, strlen(name));
        CHECK(setresuid(65534, 65534, 65534) == 0);
        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fake) == 0);
        /* Of another process's mux there may be a real one. */
        CHECK(bind(fake[1], (void *)&at, sizeof at.sun_family + 1 + strlen(name)) == 0 || errno == EADDRINUSE);
        pass(through[1], fake[0]);
        alarm(5);
        pause();
    }
    close(through[1]);
    int got = passed(through[0]), domain;
    socklen_t length = sizeof domain;
    CHECK(getsockopt(got, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
}

void forged_socket(void)
{
    char line[512], name[128];
    int kcm = kcm_socket(SOCK_DGRAM);
    attached(kcm);
    pid_t child = fork(); /* gives the mux a name that everybody can see */
    if (child == 0)
        _exit(0);
    ends(child);
    /* Those of other processes are there too. */
    FILE *sockets = fopen("/proc/net/unix", "r");
    while (getuid() == 0 && fgets(line, sizeof line, sockets)) {
        char *at = strstr(line, "preloop-kcm-vault.");
        if (at && strstr(at, ".p\n")) {
            snprintf(name, sizeof name, "preloop-kcm-sock.%.16s.0.1.d", at + strlen("preloop-kcm-vault."));
            forged(name);
        }
    }
    fclose(sockets);
}
