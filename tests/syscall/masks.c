/* Signal masks and time-outs of ppoll, pselect, epoll_pwait and epoll_pwait2, and of their plain kin. */
#include "facts.h"

static volatile sig_atomic_t heard;
static int fd, set;

static void on_signal(int number)
{
    (void)number;
    heard++;
}

enum call { PPOLL, PSELECT, PWAIT, PWAIT2, CALLS };
static const char *const names[] = {"ppoll", "pselect", "epoll_pwait", "epoll_pwait2"};

static int waits(enum call call, int milliseconds, const sigset_t *mask)
{
    struct timespec limit = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    struct timespec *until = milliseconds < 0 ? NULL : &limit;
    struct epoll_event event;
    struct pollfd entry = {fd, POLLIN, 0};
    fd_set in;
    FD_ZERO(&in);
    FD_SET(fd, &in);
    switch (call) {
    case PPOLL: return ppoll(&entry, 1, until, mask);
    case PSELECT: return pselect(fd + 1, &in, NULL, NULL, until, mask);
    case PWAIT: return epoll_pwait(set, &event, 1, milliseconds, mask);
    default: return epoll_pwait2(set, &event, 1, until, mask);
    }
}

static void *signal_later(void *thread)
{
    nap(60);
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

static void one(enum call call)
{
    char what[64];
    sigset_t usr1, none;
    sigemptyset(&none), sigemptyset(&usr1), sigaddset(&usr1, SIGUSR1);
    pthread_t self = pthread_self(), other;
#define SAY(NAME, ...) (snprintf(what, sizeof what, "%s: %s", names[call], NAME), fact(what, __VA_ARGS__))

    /* Pending, blocked outside and let in by the call. */
    heard = 0;
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    raise(SIGUSR1);
    SAY("pending, blocked", "%d", heard);
    const char *answer = r(waits(call, SOON, &none));
    SAY("pending, let in", "%s %d", answer, heard);
    sigset_t now;
    sigprocmask(SIG_SETMASK, NULL, &now);
    SAY("mask afterwards", "%d", sigismember(&now, SIGUSR1));

    /* A pending signal and data at once. */
    heard = 0;
    raise(SIGUSR1);
    peer_send(fd, "x");
    answer = r(waits(call, SOON, &none));
    SAY("pending and data", "%s", answer);
    char room[8];
    read(fd, room, 1);
    sigprocmask(SIG_UNBLOCK, &usr1, NULL);
    SAY("heard by now", "%d", heard);

    /* Kept out by the call, let in outside. */
    heard = 0;
    other = start(signal_later, &self);
    answer = r(waits(call, 200, &usr1));
    pthread_join(other, NULL);
    SAY("kept out", "%s %d", answer, heard);

    /* No restart, even with SA_RESTART. (Blocked until the call, lest the signal come before it.) */
    heard = 0;
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    other = start(signal_later, &self);
    answer = r(waits(call, -1, &none));
    SAY("while asleep", "%s %d", answer, heard);
    pthread_join(other, NULL);
    sigprocmask(SIG_UNBLOCK, &usr1, NULL);

    long long before = now_ms();
    answer = r(waits(call, 80, NULL));
    long long took = now_ms() - before;
    SAY("time-out", "%s %d", answer, took >= 79 && took < 2000);
    before = now_ms();
    answer = r(waits(call, 0, NULL));
    SAY("no time", "%s %d", answer, now_ms() - before < 1000);
    peer_send(fd, "x");
    answer = r(waits(call, -1, &usr1));
    SAY("data", "%s", answer);
    read(fd, room, 1);
    later(30);
    peer_send(fd, "x");
    answer = r(waits(call, -1, NULL));
    SAY("data while asleep", "%s", answer);
    peer_done();
    read(fd, room, 1);
}

void subject(void)
{
    handle(SIGUSR1, on_signal, SA_RESTART);
    fd = moved();
    set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    for (enum call call = 0; call < CALLS; call++)
        one(call);
    struct timespec bad = {0, 2000000000}, negative = {-1, 0};
    struct pollfd entry = {fd, POLLIN, 0};
    fact("ppoll: bad time", "%s", r(ppoll(&entry, 1, &bad, NULL)));
    fact("ppoll: negative time", "%s", r(ppoll(&entry, 1, &negative, NULL)));
    struct timeval bad_time = {-1, 0};
    fact("select: negative time", "%s", r(select(0, NULL, NULL, NULL, &bad_time)));
    fd_set in;
    FD_ZERO(&in); FD_SET(fd, &in);
    struct timeval left = {0, 50000};
    int count = select(fd + 1, &in, NULL, NULL, &left);
    fact("select: time used up", "%d %ld %ld %d", count, (long)left.tv_sec, (long)left.tv_usec, FD_ISSET(fd, &in));
    FD_SET(fd, &in), left.tv_sec = 100;
    peer_send(fd, "x");
    count = select(fd + 1, &in, NULL, NULL, &left);
    fact("select: time left", "%d %d", count, left.tv_sec >= 99 && left.tv_sec <= 100);
}
