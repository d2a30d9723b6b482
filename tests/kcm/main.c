/* Lives of KCM sockets that the conformance program's facts do not show: `main CASE`, which is silent if all is well. */
#define _GNU_SOURCE
#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void *receive_one(void *argument)
{
    char buffer[256];
    return (void *)recv(*(int *)argument, buffer, sizeof buffer, 0);
}

/* Ends a child, which did what it should. */
static void ends(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A length that no memory has, such as -1, is an error of the call alone. */
static void absurd_lengths(void)
{
    for (int n = 0; n < 2; n++) {
        int kcm = kcm_socket(n ? SOCK_SEQPACKET : SOCK_DGRAM);
        char text[256];
        struct pair pair = attached(kcm);
        CHECK(send(kcm, text, (size_t)-1, 0) == -1);
        struct iovec parts[2] = {{text, (size_t)-9}, {text, 4}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        CHECK(sendmsg(kcm, &message, 0) == -1);
        put(kcm, "whole");
        CHECK(get(pair.peer, text) == 5 && strcmp(text, "whole") == 0);
    }
}

/* Whoever is cancelled in recv(2) holds the socket no longer. */
static void cancelled_reader(void)
{
    int kcm = kcm_socket(SOCK_DGRAM), copy = clone_of(kcm);
    struct pair pair = attached(kcm);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, receive_one, &copy) == 0);
    usleep(100000);
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

static void cancelled_sender(void)
{
    int kcm = kcm_socket(SOCK_SEQPACKET), copy = clone_of(kcm);
    struct pair pair = attached(kcm);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, send_all, &copy) == 0);
    usleep(500000);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0);
    close(copy);
    char text[256];
    put(pair.peer, "here");
    put(pair.peer, "here");
    CHECK(get(kcm, text) == 4 && get(kcm, text) == 4);
}

/* A child closes what a thread of its parent, which the child has not, was asleep on. */
static void child_closes(void)
{
    int kcm = kcm_socket(SOCK_DGRAM), copy = clone_of(kcm);
    struct pair pair = attached(kcm);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, receive_one, &copy) == 0);
    usleep(100000);
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

/* What sendfile(2) and splice(2) could not send stays where it was. */
static void nothing_skipped(void)
{
    int kcm = kcm_socket(SOCK_DGRAM), size = 1;
    CHECK(setsockopt(kcm, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    CHECK(fcntl(kcm, F_SETFL, O_NONBLOCK) == 0);
    char bytes[8192] = {0};
    while (send(kcm, bytes, sizeof bytes, 0) > 0)
        ;
    CHECK(errno == EAGAIN);
    int pipes[2], left;
    CHECK(pipe(pipes) == 0 && write(pipes[1], bytes, 100) == 100);
    CHECK(splice(pipes[0], NULL, kcm, NULL, 100, 0) == -1 && errno == EAGAIN);
    CHECK(ioctl(pipes[0], FIONREAD, &left) == 0 && left == 100);
    FILE *file = tmpfile();
    CHECK(write(fileno(file), bytes, 100) == 100 && lseek(fileno(file), 10, SEEK_SET) == 10);
    CHECK(sendfile(kcm, fileno(file), NULL, 50) == -1 && errno == EAGAIN);
    CHECK(lseek(fileno(file), 0, SEEK_CUR) == 10);
}

/* A sender that sleeps in a child is woken whichever process finds room. */
static void sender_in_child(void)
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
        usleep(100000);
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
static void passed_on(void)
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
        usleep(50000);
        if (n == 1)
            before = descriptors();
    }
    CHECK(descriptors() <= before);
    ends(child);
}

/* What a sibling has not taken yet is not lost when its owner takes something else away without a descriptor to spare. */
static void none_to_spare(void)
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

/* Of several threads that attach one TCP socket one succeeds. */
static int rivals[2];
static pthread_barrier_t barrier;
static int contended;

static void *attaches(void *argument)
{
    pthread_barrier_wait(&barrier);
    return (void *)(long)(attach(*(int *)argument, contended) == 0);
}

static void attached_once(void)
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

static void signals(void)
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

/* A process may be ended by a handler, wherever that comes. */
static void exits(int signal)
{
    (void)signal;
    _exit(0);
}

static void ended_by_handler(void)
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

/* SO_RCVTIMEO and SO_SNDTIMEO count from the call, however often it is woken in vain. */
static volatile int over;

static void *steals(void *argument)
{
    int *fds = argument;
    char text[256];
    while (!over) {
        put(fds[1], "bait");
        while (!over && recv(fds[0], text, sizeof text, MSG_DONTWAIT) < 0)
            ;
        usleep(20000);
    }
    return NULL;
}

static void limited(void)
{
    int kcm = kcm_socket(SOCK_DGRAM);
    struct pair pair = attached(kcm);
    struct timeval limit = {.tv_usec = 300000};
    CHECK(setsockopt(kcm, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    int fds[2] = {kcm, pair.peer};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, steals, fds) == 0);
    long longest = 0;
    char text[256];
    for (int n = 0; n < 8; n++) {
        long start = milliseconds();
        recv(kcm, text, sizeof text, 0);
        long took = milliseconds() - start;
        longest = took > longest ? took : longest;
    }
    over = 1;
    pthread_join(thread, NULL);
    CHECK(longest < 900);
}

/* Time-outs of centuries are for ever. */
static void centuries(void)
{
    int kcm = kcm_socket(SOCK_DGRAM);
    struct pair pair = connection();
    struct timeval limit = {.tv_sec = 40000000000};
    CHECK(setsockopt(pair.tcp, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 && attach(kcm, pair.tcp) == 0);
    char text[256];
    struct iovec part = {text, sizeof text};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    struct timespec most = {.tv_sec = INT64_MAX};
    CHECK(write(pair.peer, "\0\0\0", 3) == 3);
    usleep(200000);
    CHECK(write(pair.peer, "\4here", 5) == 5);
    CHECK(recvmmsg(kcm, &message, 1, 0, &most) == 1 && message.msg_len == 8);
}

/* A child goes on with the time that its parent gave to a message. */
static void inherited_limit(void)
{
    int kcm = kcm_socket(SOCK_DGRAM), error;
    struct pair pair = connection();
    struct timeval limit = {.tv_usec = 600000};
    CHECK(setsockopt(pair.tcp, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    pid_t first = fork();
    if (first == 0) {
        CHECK(attach(kcm, pair.tcp) == 0 && write(pair.peer, "\0\0", 2) == 2);
        usleep(100000);
        _exit(0);
    }
    ends(first);
    usleep(900000);
    socklen_t length = sizeof error;
    CHECK(getsockopt(pair.tcp, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == ETIMEDOUT);
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
        CHECK(bind(fake[1], (void *)&at, sizeof at.sun_family + 1 + strlen(name)) == 0);
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

static void forged_socket(void)
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

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"absurd_lengths", absurd_lengths},
    {"cancelled_reader", cancelled_reader},
    {"cancelled_sender", cancelled_sender},
    {"child_closes", child_closes},
    {"nothing_skipped", nothing_skipped},
    {"sender_in_child", sender_in_child},
    {"passed_on", passed_on},
    {"none_to_spare", none_to_spare},
    {"attached_once", attached_once},
    {"signals", signals},
    {"ended_by_handler", ended_by_handler},
    {"limited", limited},
    {"centuries", centuries},
    {"inherited_limit", inherited_limit},
    {"forged_socket", forged_socket},
    {"asleep_before", asleep_before},
    {"backlog", backlog},
    {"cancelled_splice", cancelled_splice},
    {"herd", herd},
    {"idle", idle},
    {"in_turn", in_turn},
    {"killed_senders", killed_senders},
    {"left_to_those_who_can", left_to_those_who_can},
    {"low_water", low_water},
    {"many_given_on", many_given_on},
    {"passer_is_gone", passer_is_gone},
    {"mux_is_gone", mux_is_gone},
    {"posted_while_forking", posted_while_forking},
    {"stopped", stopped},
    {"streams", streams},
    {"woken_and_killed", woken_and_killed},
    {"wrong_headers", wrong_headers},
};

int main(int argc, char **argv)
{
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        if (argc == 2 && strcmp(argv[1], cases[n].name) == 0) {
            cases[n].run();
            return 0;
        }
    }
    fprintf(stderr, "which case?\n");
    return 2;
}
