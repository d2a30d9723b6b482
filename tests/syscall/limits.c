/* Few descriptors, none at all, many, little memory, and a seccomp filter. */
#include "facts.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static char room[64];

static void limit(int what, rlim_t value)
{
    struct rlimit now;
    getrlimit(what, &now);
    now.rlim_cur = value < now.rlim_max ? value : now.rlim_max;
    setrlimit(what, &now);
}

/* As a child, which no limit outlives. */
static void in_child(void (*run)(void))
{
    int status;
    if (fork() == 0) {
        run();
        _exit(0);
    }
    wait(&status);
    if (status)
        fact("child", "status %#x", status);
}

static int exhaust(void)
{
    int count = 0;
    while (dup(1) >= 0)
        count++;
    return errno == EMFILE ? count : -1;
}

static void few(void)
{
    limit(RLIMIT_NOFILE, 256);
    fact("256: all used", "%d", exhaust() > 200);
    fact("256: socket", "%s", r(socket(AF_INET, SOCK_STREAM, 0)));
    close(255);
    int fd = fresh();
    exchange(fd, 20);
    send(fd, "hello", 5, 0);
    fact("256: the last one", "%d, %s", fd, peer_wait_read(fd, 64));
    fact("256: poll", "%s", bits(looked(fd, 0)));
    fact("256: no epoll set", "%s", r(epoll_create1(0)));
    later(50);
    peer_send(fd, "x");
    fact("256: a read that waits", "%s", text(recv(fd, room, 8, 0), room));
    peer_done();
    struct timeval time = {0, 50000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    fact("256: a read in vain", "%s", r(recv(fd, room, 8, 0)));
    fact("256: accept", "%s", listener() >= 0 ? "EMFILE" : r(-1));
    peer_close(fd);
    fact("256: end", "%s", r(recv(fd, room, 8, 0)));
}

static void exhausted_after_moving(void)
{
    limit(RLIMIT_NOFILE, 256);
    int fd = moved(), set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    exhaust();
    fact("moved, then none left: add", "%s", r(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event)));
    later(50);
    peer_send(fd, "x");
    fact("moved, then none left: epoll", "%d", epoll_wait(set, &event, 1, SOON));
    fact("moved, then none left: read", "%s", text(recv(fd, room, 8, 0), room));
    later(50);
    peer_send(fd, "y");
    fact("moved, then none left: poll", "%s", bits(looked(fd, SOON) & POLLOUT));
    fact("moved, then none left: a read that waits", "%s", text(recv(fd, room, 8, 0), room));
}

/* A process that forbids itself descriptors, as servers do that guard against their clients: poll takes none either. */
static void forbidden(void)
{
    int early = moved(), other = moved(), fd = fresh();
    exchange(fd, 1);
    struct rlimit none = {0, 0};
    fact("none: forbidden", "%s", r(setrlimit(RLIMIT_NOFILE, &none)));
    fact("none: dup", "%s", r(dup(fd)));
    later(50);
    peer_send(fd, "x");
    fact("none: a read that waits", "%s", text(recv(fd, room, 8, 0), room));
    exchange(fd, 20);
    later(50);
    peer_send(fd, "y");
    fact("none: a look that waits", "%s", text(recv(fd, room, 8, MSG_PEEK), room));
    fact("none: the rest", "%s", text(recv(fd, room, 8, 0), room));
    later(50);
    peer_send(early, "z");
    fact("none: one that moved before", "%s", text(recv(early, room, 8, 0), room));
    later(50);
    peer_close(early);
    fact("none: its end", "%s", text(recv(early, room, 8, 0), room));
    long sent = fill(other);
    later(50);
    peer_take(other, sent);
    fact("none: a write that waits", "%s", r(send(other, "x", 1, 0)));
}

static void plenty(void)
{
    limit(RLIMIT_NOFILE, 1000000);
    int fd = moved(), high = fcntl(fd, F_DUPFD, 60000);
    fact("many: a high number", "%d", high);
    peer_send(fd, "x");
    fact("many: read", "%s", text(recv(high, room, 8, 0), room));
    fact("many: poll", "%s", bits(looked(high, 0)));
    close(fd);
    peer_send(fd, "y");
    fact("many: the high one alone", "%s", text(recv(high, room, 8, 0), room));
}

static void little_memory(void)
{
    limit(RLIMIT_AS, 200 << 20);
    int fd = fresh();
    exchange(fd, 30);
    send(fd, "hello", 5, 0);
    fact("little memory", "%s", peer_wait_read(fd, 64));
    peer_send(fd, "there");
    fact("little memory: read", "%s", text(recv(fd, room, 8, 0), room));
}

/* A program that asks what the kernel knows of filters, as Chromium and QEMU do, sets none. */
static void asked(void)
{
    unsigned action = SECCOMP_RET_ERRNO;
    fact("asked: prctl", "%s", r(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL)));
    fact("asked: seccomp", "%s", r(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, NULL)));
    fact("asked: action", "%s", r(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action)));
    int fd = moved();
    send(fd, "hello", 5, 0);
    fact("asked: read", "%s", peer_wait_read(fd, 64));
}

static int closes(void *connection)
{
    close(*(int *)connection);
    _exit(0);
}

static void filtered(void)
{
    static _Alignas(64) char stack[1 << 16];
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {1, allow};
    int early = moved(), fd = fresh();
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    fact("filter", "%s", r(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)));
    exchange(fd, 20);
    send(fd, "hello", 5, 0);
    fact("filtered: a new connection", "%s", peer_wait_read(fd, 64));
    send(early, "hello", 5, 0);
    fact("filtered: one that moved before", "%s", peer_wait_read(early, 64));
    later(50);
    peer_send(early, "x");
    fact("filtered: a read that waits", "%s", text(recv(early, room, 8, 0), room));
    int status, child = clone(closes, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &early);
    fact("filtered: a child in its memory", "%d", waitpid(child, &status, 0) == child && status == 0);
    exchange(early, 20);
}

/* A child that serves a connection which its parent holds too, and may make no socket: sshd's. */
static void confined(void)
{
    struct sock_filter kill_socket[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, kill_socket};
    int status, early = moved(), fd = fresh();
    exchange(fd, 1);
    if (fork() == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
        exchange(fd, 20);
        later(50);
        peer_send(fd, "x");
        fact("confined: a read that waits", "%s", text(recv(fd, room, 8, 0), room));
        later(50);
        peer_send(fd, "y");
        fact("confined: poll", "%s", bits(looked(fd, SOON) & POLLIN));
        later(50);
        peer_send(early, "z");
        fact("confined: one that moved before", "%s", text(recv(early, room, 8, 0), room));
        _exit(0);
    }
    wait(&status);
    fact("confined", "status %#x", status);
}

/* A filter that lets a process make these calls and no other: one more kills it. */
static void only(const short *calls, unsigned count)
{
    enum { MOST = 64 };
    struct sock_filter program[2 * MOST + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    if (count > MOST)
        _exit(2);
    for (unsigned i = 0; i < count; i++) {
        program[2 * i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
        program[2 * i + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    program[2 * count + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog filter = {2 * count + 2, program};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

/* A child that serves a connection which its parent holds too, and may read, write and wait, make no descriptors, and
 * nothing else: sshd's, before the login. The parent goes on with the connection afterwards. */
static void sandboxed(void)
{
    static const short calls[] = {
        SYS_read, SYS_write, SYS_ppoll, SYS_exit_group,
#ifdef __x86_64__
        SYS_poll,
#endif
    };
    int status, fd = moved();
    later(1);
    peer_echo(fd, 8);
    if (fork() == 0) {
        limit(RLIMIT_NOFILE, 1);
        only(calls, sizeof calls / sizeof *calls);
        struct pollfd reply = {fd, POLLIN, 0};
        bool right = write(fd, "key", 3) == 3 && poll(&reply, 1, SOON) == 1 && read(fd, room, 8) == 3;
        _exit(right && memcmp(room, "key", 3) == 0 ? 0 : 1);
    }
    wait(&status);
    fact("sandboxed", "status %#x", status);
    write(fd, "login", 5);
    fact("sandboxed: its parent", "%s", text(read(fd, room, 8), room));
    exchange(fd, 20);
}

/* A whole life of connections behind such a filter, as vsftpd's. */
static void strict(void)
{
    static const short calls[] = {
        SYS_socket, SYS_bind, SYS_listen, SYS_getsockname, SYS_connect, SYS_accept, SYS_accept4, SYS_setsockopt,
        SYS_getsockopt, SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_read, SYS_write, SYS_readv, SYS_writev,
        SYS_ppoll, SYS_pselect6, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_fcntl, SYS_dup, SYS_dup3,
        SYS_shutdown, SYS_close, SYS_brk, SYS_mmap, SYS_munmap, SYS_exit_group,
#ifdef __x86_64__
        SYS_poll, SYS_select, SYS_epoll_wait, SYS_dup2,
#endif
    };
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    struct epoll_event event = {.events = EPOLLIN};
    int early = moved(), fd = fresh(), one = 1;
    exchange(fd, 1);
    fact("strict: a new one", "%d", fd >= 0);
    only(calls, sizeof calls / sizeof *calls);
    exchange(fd, 20);
    fact("strict: one from before", "%s", r(close(fd)));
    peer_send(early, "early");
    fact("strict: one that moved before", "%s", text(recv(early, room, 8, 0), room));
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bind(listener, (struct sockaddr *)&at, sizeof at);
    fact("strict: listen", "%s", r(listen(listener, 5)));
    getsockname(listener, (struct sockaddr *)&at, &length);
    fact("strict: connect", "%s", r(connect(client, (struct sockaddr *)&at, sizeof at)));
    int server = accept(listener, NULL, NULL), set = epoll_create1(0), copy = dup(server);
    fact("strict: epoll_ctl", "%s", r(epoll_ctl(set, EPOLL_CTL_ADD, copy, &event)));
    for (int i = 0; i < 20; i++) {
        send(client, "request", 7, 0);
        read(server, room, 7);
        write(server, "reply", 5);
        recv(client, room, 5, 0);
    }
    send(client, "last", 4, 0);
    fact("strict: epoll_wait", "%d", epoll_wait(set, &event, 1, SOON));
    fact("strict: poll", "%s", bits(looked(server, SOON)));
    fact("strict: read", "%s", text(read(copy, room, 8), room));
    fact("strict: a file", "%d", dup2(server, client) == client);
    close(server);
    close(copy);
    fact("strict: shutdown", "%s", r(shutdown(client, SHUT_RDWR)));
    close(client);
    close(set);
    close(listener);
}

void subject(void)
{
    in_child(few);
    in_child(exhausted_after_moving);
    in_child(forbidden);
    in_child(plenty);
    in_child(little_memory);
    in_child(asked);
    in_child(filtered);
    in_child(confined);
    in_child(sandboxed);
    in_child(strict);
}
