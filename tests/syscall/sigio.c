/* Signals that sockets send: O_ASYNC with SIGIO and F_SETSIG, and SIGPIPE. */
#include "facts.h"

static volatile sig_atomic_t heard, band, descriptor, code;

static void on_signal(int number)
{
    (void)number;
    heard++;
}

static void on_info(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    heard++;
    band |= info->si_band;
    descriptor = info->si_fd;
    code = info->si_code;
}

/* Signals come soon after what they tell of; one that does not come is not waited for longer than this. */
static int comes(void)
{
    for (int turn = 0; turn < 100 && !heard; turn++)
        nap(1);
    return heard > 0;
}

static void asynchronous(void)
{
    char room[16];
    int fd = fresh();
    exchange(fd, 1);
    handle(SIGIO, on_signal, SA_RESTART);
    fact("F_SETOWN", "%s", r(fcntl(fd, F_SETOWN, getpid())));
    fact("F_GETOWN", "%d", fcntl(fd, F_GETOWN) == getpid());
    fact("O_ASYNC", "%s", r(fcntl(fd, F_SETFL, O_ASYNC)));
    heard = 0;
    peer_send(fd, "x");
    fact("data", "%d", comes());
    heard = 0;
    peer_send(fd, "y");
    fact("more data", "%d", comes());
    heard = 0;
    read(fd, room, 16);
    peer_shutdown(fd, SHUT_WR);
    fact("end", "%d", comes());
    heard = 0;
    fcntl(fd, F_SETFL, 0);
    peer_reset(fd);
    fact("off", "%d", comes());
    close(fd);

    fd = fresh();
    exchange(fd, 1);
    int on = 1;
    fcntl(fd, F_SETOWN, getpid());
    ioctl(fd, FIOASYNC, &on);
    heard = 0;
    long sent = fill(fd);
    nap(20);
    heard = 0;
    peer_take(fd, sent);
    fact("FIOASYNC: space", "%d", comes());
    heard = 0;
    peer_reset(fd);
    fact("FIOASYNC: reset", "%d", comes());
    close(fd);

    fd = fresh();
    exchange(fd, 1);
    struct sigaction action = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGRTMIN + 3, &action, NULL);
    fcntl(fd, F_SETOWN, getpid());
    fcntl(fd, F_SETSIG, SIGRTMIN + 3);
    fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK);
    heard = band = 0;
    peer_send(fd, "x");
    int came = comes();
    fact("F_SETSIG", "%d %d %s", came, descriptor == fd, bits(band & (POLLIN | POLLRDNORM)));
    close(fd);
}

/* Asked for before the connection moves, as servers do that set everything up at once. */
static void asked_late(const char *name, enum sleep where, bool by_ioctl)
{
    char data[64];
    int fd = moved(), on = 1;
    peer_sleeps(fd, where);
    fcntl(fd, F_SETOWN, getpid());
    fact(name, "%s", r(by_ioctl ? ioctl(fd, FIOASYNC, &on) : fcntl(fd, F_SETFL, O_ASYNC)));
    send(fd, "wake up", 7, 0);
    nap(20);
    heard = 0;
    peer_send(fd, "x");
    snprintf(data, sizeof data, "%s: data", name);
    fact(data, "%d", comes());
    close(fd);
}

static void asked_early(void)
{
    int fd = fresh();
    fcntl(fd, F_SETOWN, getpid());
    fcntl(fd, F_SETFL, O_ASYNC);
    exchange(fd, 12);
    nap(20);
    heard = 0;
    peer_send(fd, "x");
    fact("asked early: data", "%d", comes());
    close(fd);
}

static void broken_pipe(void)
{
    int fd = moved();
    handle(SIGPIPE, on_signal, SA_RESTART);
    shutdown(fd, SHUT_WR);
    heard = 0;
    const char *answer = r(send(fd, "x", 1, 0));
    fact("SIGPIPE: send", "%s %d", answer, heard);
    answer = r(send(fd, "x", 1, MSG_NOSIGNAL));
    fact("SIGPIPE: NOSIGNAL", "%s %d", answer, heard);
    answer = r(write(fd, "x", 1));
    fact("SIGPIPE: write", "%s %d", answer, heard);
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    answer = r(sendmsg(fd, &message, 0));
    fact("SIGPIPE: sendmsg", "%s %d", answer, heard);
    answer = r(writev(fd, &part, 1));
    fact("SIGPIPE: writev", "%s %d", answer, heard);
    answer = r(write(fd, "", 0));
    fact("SIGPIPE: nothing written", "%s %d", answer, heard);
    close(fd);

    fd = moved();
    peer_close(fd);
    nap(20);
    heard = 0;
    answer = r(send(fd, "x", 1, 0));
    fact("closed peer: first", "%s %d", answer, heard);
    nap(20);
    answer = r(send(fd, "x", 1, 0));
    fact("closed peer: second", "%s %d", answer, heard);
    close(fd);

    fd = moved();
    sigset_t pipe_set, pending_set;
    sigemptyset(&pipe_set), sigaddset(&pipe_set, SIGPIPE);
    sigprocmask(SIG_BLOCK, &pipe_set, NULL);
    shutdown(fd, SHUT_WR);
    send(fd, "x", 1, 0);
    sigpending(&pending_set);
    struct timespec none = {0, 0};
    fact("blocked SIGPIPE", "%d %d", sigismember(&pending_set, SIGPIPE), sigtimedwait(&pipe_set, NULL, &none) == SIGPIPE);
    close(fd);
    if (fork() == 0) {
        signal(SIGPIPE, SIG_DFL);
        sigprocmask(SIG_UNBLOCK, &pipe_set, NULL);
        fd = moved();
        shutdown(fd, SHUT_WR);
        send(fd, "x", 1, 0);
        _exit(0);
    }
    int status;
    wait(&status);
    fact("SIGPIPE kills", "%d", WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
}

void subject(void)
{
    asynchronous();
    asked_early();
    asked_late("asked late", IN_EPOLL, false);
    asked_late("asked late by FIOASYNC", IN_RECV, true);
    broken_pipe();
}
