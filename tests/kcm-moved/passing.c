/* KCM sockets that go to other processes in messages of Unix sockets (SCM_RIGHTS). */
#define _GNU_SOURCE
#include "serve.h"

#include <errno.h>
#include <preloop/kcm.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child that alone has a mux with these connections, and has done something with it. */
static pid_t owner(int kcm, const int *tcp, int count, void (*act)(int kcm, int through), int through)
{
    int done[2];
    char byte;
    CHECK(pipe(done) == 0);
    pid_t child = alone_with(kcm, tcp, count);
    if (child == 0) {
        act(kcm, through);
        CHECK(write(done[1], "x", 1) == 1);
        for (;;)
            pause();
    }
    close(done[1]);
    CHECK(read(done[0], &byte, 1) == 1);
    close(done[0]);
    return child;
}

static void pass_and_close(int kcm, int through)
{
    pass(through, kcm);
    close(kcm);
}

/* Who is passed a socket serves it, and goes on alone when the one that passed it is killed. */
void passes(void)
{
    for (int n = 0; n < 2 * ways; n++) {
        struct receiver receiver = receiver_of(n % ways);
        struct peer peer;
        int kcm = attached(n % 2 ? SOCK_SEQPACKET : SOCK_DGRAM, n / ways, &peer);
        pid_t passer = owner(kcm, &peer.tcp, 1, pass_and_close, receiver.through);
        CHECK(ask(&peer, ECHO, 2000, 700) == 2000);
        end(passer);
        CHECK(ask(&peer, ECHO, 3000, 700) == 3000 && ask(&peer, ECHO, 300, 10000) == 300);
        end(receiver.pid);
        printf("all were answered, and it ends: %ld\n", ask(&peer, ENDED, 0, 0));
        close(receiver.through);
    }
}

static void pass_several(int kcm, int through)
{
    int clones[] = {kcm, clone_of(kcm), kcm, clone_of(kcm)};
    CHECK(pass_many(through, clones, 4) == 1);
    pass(through, clones[1]);
    for (int i = 0; i < 4; i++)
        if (i != 2)
            close(clones[i]);
}

/* Several sockets of a mux in one message, and one of them twice and again. */
void passes_several(void)
{
    int through[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, through) == 0);
    pid_t receiver = fork();
    if (receiver == 0) {
        int fds[5];
        CHECK(passed_many(through[1], fds, 4) == 0);
        fds[4] = passed(through[1]);
        close(fds[0]);
        close(fds[4]);
        close(fds[3]);
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve(fds[1], EPOLL);
        }
        serve(fds[2], THREADS);
    }
    struct peer peer;
    int kcm = attached(SOCK_DGRAM, 1, &peer);
    pid_t passer = owner(kcm, &peer.tcp, 1, pass_several, through[0]);
    CHECK(ask(&peer, ECHO, 3000, 700) == 3000);
    end(passer);
    CHECK(ask(&peer, ECHO, 3000, 700) == 3000);
    printf("all were answered\n");
    end(receiver);
}

static int later_tcp;

static void pass_and_attach(int kcm, int through)
{
    pass(through, kcm);
    CHECK(attach(kcm, later_tcp) == 0);
}

/* Connections in shared memory and on TCP, and some that are attached when the socket was passed. */
void passes_mixed(void)
{
    for (int n = 0; n < ways; n++) {
        struct receiver receiver = receiver_of(n);
        struct peer moved = peer_of(1, 200000), plain = new_peer(0), later = peer_of(0, 200000);
        int kcm = kcm_socket(SOCK_DGRAM), tcp[] = {moved.tcp, plain.tcp, later.tcp}, on = 1;
        CHECK(setsockopt(kcm, SOL_KCM, KCM_ADDRESSES, &on, sizeof on) == 0);
        CHECK(attach(kcm, moved.tcp) == 0 && attach(kcm, plain.tcp) == 0);
        later_tcp = dup(later.tcp);
        pid_t passer = owner(kcm, tcp, 3, pass_and_attach, receiver.through);
        close(later_tcp);
        has_received(&receiver);
        end(passer);
        struct peer *peers[] = {&moved, &plain, &later};
        for (int i = 0; i < 3; i++)
            tell(peers[i], ECHO, 2000, 1000);
        for (int i = 0; i < 3; i++)
            printf("%ld were answered\n", answer(peers[i]));
        end(receiver.pid);
        close(receiver.through);
    }
}

static void pass_in_the_middle(int kcm, int through)
{
    fill(buffer, 9, 3 << 20);
    CHECK(send(kcm, buffer, 3 << 20, MSG_DONTWAIT) == 3 << 20);
    pass(through, kcm);
    close(kcm);
}

/* A message is half there, and one half gone. */
void passes_in_the_middle(void)
{
    for (int killed = 0; killed < 2; killed++) {
        struct receiver receiver = receiver_of(killed ? EPOLL : ASLEEP);
        struct peer peer;
        int kcm = attached(SOCK_DGRAM, killed, &peer);
        CHECK(ask(&peer, MUTTER, 7, 50000) == 0);
        pid_t passer = owner(kcm, &peer.tcp, 1, pass_in_the_middle, receiver.through);
        has_received(&receiver);
        if (killed)
            end(passer);
        CHECK(ask(&peer, HEAR, 9, 3 << 20) == 1);
        CHECK(ask(&peer, MUTTER, 7, 50000L << 32 | 100000) == 0);
        CHECK(ask(&peer, HEAR, 7, 100000) == 1);
        CHECK(ask(&peer, ECHO, 1000, 700) == 1000);
        printf("both came through\n");
        if (!killed)
            end(passer);
        end(receiver.pid);
        close(receiver.through);
    }
}

static void pass_thrice(int kcm, int through)
{
    for (int i = 0; i < 3; i++)
        pass(through, kcm);
    close(kcm);
}

/* Of three that are passed a socket one is killed before it uses it, and one has no room for it. */
void passes_in_vain(void)
{
    int through[2], first, second, flags = 0;
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, through) == 0);
    pid_t last = fork();
    if (last == 0) {
        if ((first = fork()) == 0) {
            passed(through[1]);
            kill(getpid(), SIGKILL);
        }
        CHECK(waitpid(first, NULL, 0) == first);
        if ((second = fork()) == 0) {
            struct rlimit few = {64, 64};
            int fd = -1;
            CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
            while (dup(0) >= 0)
                ;
            flags = passed_many(through[1], &fd, 1);
            _exit(fd < 0 && flags & MSG_CTRUNC ? 0 : 1);
        }
        CHECK(waitpid(second, &flags, 0) == second && flags == 0);
        serve(passed(through[1]), EPOLL);
    }
    struct peer peer;
    int kcm = attached(SOCK_SEQPACKET, 1, &peer);
    pid_t passer = owner(kcm, &peer.tcp, 1, pass_thrice, through[0]);
    CHECK(ask(&peer, ECHO, 2000, 700) == 2000);
    end(passer);
    CHECK(ask(&peer, ECHO, 2000, 700) == 2000);
    end(last);
    printf("all were answered, and it ends: %ld\n", ask(&peer, ENDED, 0, 0));
}

int hears_bare(int ready, int number)
{
    char byte;
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "kcm-moved-%d", number);
    CHECK(bind(listener, (void *)&at, sizeof at) == 0 && listen(listener, 1) == 0);
    CHECK(write(ready, "x", 1) == 1);
    int through = accept(listener, NULL, NULL);
    CHECK(through >= 0);
    return recv(through, &byte, 1, 0) < 0;
}

/* A way to a program without the library, and its number. */
static int way_to_bare(pid_t *child)
{
    int ready[2], to = socket(AF_UNIX, SOCK_STREAM, 0);
    char byte, descriptor[16], digits[16];
    char *words[] = {"kcm-moved", "bare", descriptor, digits, NULL}, *nothing[] = {NULL};
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    CHECK(pipe(ready) == 0);
    snprintf(descriptor, sizeof descriptor, "%d", ready[1]);
    snprintf(digits, sizeof digits, "%d", getpid());
    snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "kcm-moved-%d", getpid());
    *child = fork();
    if (*child == 0)
        _exit(execve("/proc/self/exe", words, nothing));
    close(ready[1]);
    CHECK(read(ready[0], &byte, 1) == 1 && connect(to, (void *)&at, sizeof at) == 0);
    close(ready[0]);
    return to;
}

/* What cannot be, over shared memory alone: its facts are others on TCP. The sockets of a mux that has a connection which has
 * moved are passed to nobody without the library. */
void refused(void)
{
    pid_t bare;
    int to = way_to_bare(&bare), through[2];
    struct peer peer = peer_of(1, 0), other = peer_of(0, 0);
    int kcm = kcm_socket(SOCK_DGRAM);
    CHECK(attach(kcm, peer.tcp) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, through) == 0);
    errno = 0;
    printf("passed: %zd", pass_many(to, &kcm, 1));
    printf(" %d\n", errno);
    end(bare);
    pass(through[0], kcm);
    CHECK(attach(kcm, other.tcp) == 0 && unattach(kcm, other.tcp) == 0);
    /* Nor does one change back to TCP, whichever end wants to give it to a program without the library. */
    printf("given away: %ld", give_away(peer.tcp));
    printf(" %ld\n", ask(&peer, GIVE, 0, 0));
    CHECK(ask(&peer, SAY, 1, 3000) == 0);
    expect(kcm, 1, 3000);
    say(kcm, 2, 3000);
    CHECK(ask(&peer, HEAR, 2, 3000) == 1);
    /* Urgent data from there passes the mux by, and its end can send none. What follows comes over TCP. */
    errno = 0;
    CHECK(ask(&peer, SAY, 3, 3000) == 0 && ask(&peer, URGE, 0, 0) == 1);
    printf("urgent: %zd", send(peer.tcp, "!", 1, MSG_OOB));
    printf(" %d\n", errno);
    expect(kcm, 3, 3000);
    for (int i = 4; i < 24; i++) {
        tell(&peer, SAY, i, 30000);
        expect(kcm, i, 30000);
        CHECK(answer(&peer) == 0);
        say(kcm, i, 30000);
        CHECK(ask(&peer, HEAR, i, 30000) == 1);
    }
}
