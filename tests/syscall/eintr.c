/* Signals during blocked calls: EINTR, SA_RESTART, time-outs, partial results, handlers that use sockets. */
#include "facts.h"
#include <sys/syscall.h>
#include <sys/uio.h>

static volatile sig_atomic_t heard;
static int fd, other;
static char big[4 << 20];

static void on_signal(int number)
{
    (void)number;
    heard++;
}

static void on_signal_use_another(int number)
{
    (void)number;
    char room[16];
    heard += send(other, "from handler", 12, MSG_NOSIGNAL) == 12;
    recv(other, room, sizeof room, MSG_DONTWAIT);
}

struct call {
    const char *name;
    long (*run)(void);
    const char *result;
    int tid;
};

static char room[64];
static long by_read(void) { return read(fd, room, 8); }
static long by_recv(void) { return recv(fd, room, 8, 0); }
static long by_recvfrom(void) { return recvfrom(fd, room, 8, 0, NULL, NULL); }
static long by_readv(void) { struct iovec part = {room, 8}; return readv(fd, &part, 1); }
static long by_recvmsg(void)
{
    struct iovec part = {room, 8};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return recvmsg(fd, &message, 0);
}
static long by_waitall(void) { return recv(fd, room, 8, MSG_WAITALL); }
static long by_peek(void) { return recv(fd, room, 8, MSG_PEEK); }
static long by_poll(void) { struct pollfd entry = {fd, POLLIN, 0}; return poll(&entry, 1, SOON); }
static long by_select(void)
{
    fd_set in;
    FD_ZERO(&in); FD_SET(fd, &in);
    struct timeval limit = {5, 0};
    return select(fd + 1, &in, NULL, NULL, &limit);
}
static long by_epoll(void)
{
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    long count = epoll_wait(set, &event, 1, SOON);
    int kept = errno;
    close(set);
    errno = kept;
    return count;
}
static long by_send(void) { return send(fd, big, sizeof big, 0); }

static void *runs(void *argument)
{
    struct call *call = argument;
    static char line[64];
    call->tid = syscall(SYS_gettid);
    long result = call->run();
    snprintf(line, sizeof line, "%s", result > 100 ? "some" : text(result, result > 8 ? "" : room));
    call->result = line;
    return NULL;
}

/* A signal while the call sleeps; then the peer sends. */
static void interrupt(const char *how, const char *name, long (*run)(void), bool sends)
{
    char what[64];
    struct call call = {.name = name, .run = run};
    heard = 0;
    memset(room, 0, sizeof room);
    pthread_t thread = start(runs, &call);
    while (!*(volatile int *)&call.tid)
        nap(1);
    until_asleep(call.tid);
    pthread_kill(thread, SIGUSR1);
    for (int turn = 0; turn < 100 && !*(const char *volatile *)&call.result; turn++)
        nap(1);
    const char *early = call.result;
    if (!early && sends)
        peer_take(fd, 64);
    else if (!early)
        peer_send(fd, "12345678");
    if (!early && sends)
        later(20), peer_shutdown(fd, SHUT_RD);
    if (!(sends && !early))
        pthread_join(thread, NULL);
    snprintf(what, sizeof what, "%s: %s", how, name);
    if (sends && !early) {
        fact(what, "goes on, heard %d", heard);
        peer_close(fd);
        pthread_join(thread, NULL);
        return;
    }
    fact(what, "%s, %s, heard %d", early ? "ended" : "went on", call.result, heard);
    recv(fd, room, sizeof room, MSG_DONTWAIT);
}

static void all(const char *how)
{
    interrupt(how, "read", by_read, false);
    interrupt(how, "recv", by_recv, false);
    interrupt(how, "recvfrom", by_recvfrom, false);
    interrupt(how, "readv", by_readv, false);
    interrupt(how, "recvmsg", by_recvmsg, false);
    interrupt(how, "WAITALL", by_waitall, false);
    interrupt(how, "PEEK", by_peek, false);
    interrupt(how, "poll", by_poll, false);
    interrupt(how, "select", by_select, false);
    interrupt(how, "epoll", by_epoll, false);
}

static void sending(const char *how)
{
    int kept = fd;
    fd = moved();
    interrupt(how, "send", by_send, true);
    fd = kept;
}

static void partly(const char *how)
{
    peer_send(fd, "123");
    interrupt(how, "WAITALL after some", by_waitall, false);
}

void subject(void)
{
    fd = moved();
    handle(SIGUSR1, on_signal, 0);
    all("plain");
    partly("plain");
    sending("plain");
    handle(SIGUSR1, on_signal, SA_RESTART);
    all("restart");
    partly("restart");
    struct timeval limit = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    interrupt("restart, time-out", "recv", by_recv, false);
    limit.tv_sec = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    siginterrupt(SIGUSR1, 1);
    interrupt("siginterrupt", "recv", by_recv, false);
    signal(SIGUSR1, on_signal);
    interrupt("signal()", "recv", by_recv, false);
    other = moved();
    handle(SIGUSR1, on_signal_use_another, SA_RESTART);
    interrupt("handler uses another", "recv", by_recv, false);
    fact("from the handler", "%s", peer_wait_read(other, 64));
    signal(SIGUSR1, SIG_IGN);
    interrupt("ignored", "recv", by_recv, false);
    handle(SIGALRM, on_signal, 0);
    heard = 0;
    /* Again and again, should the first one come before the call. */
    ualarm(80000, 500000);
    const char *answer = text(recv(fd, room, 8, 0), room);
    ualarm(0, 0);
    fact("alarm", "%s, heard %d", answer, heard > 0);
}
