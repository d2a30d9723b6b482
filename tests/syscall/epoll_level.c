/* Level-triggered epoll: what is ready, for how long, and what epoll_ctl answers. */
#include "facts.h"

static int set;

static const char *ask(int milliseconds)
{
    struct epoll_event event = {0};
    int count = epoll_wait(set, &event, 1, milliseconds);
    return count == 1 ? bits(event.events) : r(count);
}

static const char *control(int action, int fd, unsigned events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    return r(epoll_ctl(set, action, fd, &event));
}

static void readiness(void)
{
    char room[64];
    int fd = moved();
    fact("add", "%s", control(EPOLL_CTL_ADD, fd, EPOLLIN));
    fact("empty", "%s", ask(QUIET));
    peer_send(fd, "hello");
    fact("data", "%s", ask(SOON));
    fact("data again", "%s", ask(0));
    read(fd, room, 2);
    fact("half read", "%s", ask(0));
    read(fd, room, 64);
    fact("read", "%s", ask(QUIET));
    fact("mod to out", "%s", control(EPOLL_CTL_MOD, fd, EPOLLOUT));
    fact("out", "%s", ask(SOON));
    peer_send(fd, "x");
    fact("out only, with data", "%s", ask(0));
    fact("mod to all", "%s", control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI));
    fact("all", "%s", ask(0));
    fact("mod to nothing", "%s", control(EPOLL_CTL_MOD, fd, 0));
    fact("nothing asked", "%s", ask(QUIET));
    control(EPOLL_CTL_MOD, fd, EPOLLRDNORM | EPOLLWRNORM);
    fact("norm bits", "%s", ask(0));
    control(EPOLL_CTL_MOD, fd, EPOLLRDBAND | EPOLLWRBAND);
    fact("band bits", "%s", ask(0));
    control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP);
    peer_shutdown(fd, SHUT_WR);
    fact("data and end", "%s", ask(SOON));
    read(fd, room, 64);
    fact("end", "%s", ask(0));
    control(EPOLL_CTL_MOD, fd, EPOLLIN);
    fact("end, IN only", "%s", ask(0));
    control(EPOLL_CTL_MOD, fd, EPOLLRDHUP);
    fact("end, RDHUP only", "%s", ask(0));
    control(EPOLL_CTL_MOD, fd, 0);
    fact("end, nothing asked", "%s", ask(QUIET));
    shutdown(fd, SHUT_WR);
    fact("both ends shut, nothing asked", "%s", ask(SOON));
    control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    fact("both ends shut", "%s", ask(0));
    fact("delete", "%s", control(EPOLL_CTL_DEL, fd, 0));
    fact("deleted", "%s", ask(QUIET));
    close(fd);
}

static void reset(void)
{
    int fd = moved();
    control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    fact("before reset", "%s", ask(0));
    peer_reset(fd);
    nap(20);
    fact("reset", "%s", ask(SOON));
    fact("reset: error", "%s", error(pending(fd)));
    fact("reset: told", "%s", ask(0));
    control(EPOLL_CTL_MOD, fd, 0);
    fact("reset: nothing asked", "%s", ask(0));
    close(fd);
    fact("closed", "%s", ask(QUIET));
}

static void full(void)
{
    int fd = moved();
    long sent = fill(fd);
    control(EPOLL_CTL_ADD, fd, EPOLLOUT);
    fact("full", "%s", ask(QUIET));
    later(20);
    peer_take(fd, sent);
    fact("drained", "%s", ask(SOON));
    peer_done();
    close(fd);
    fact("gone", "%s", ask(QUIET));
}

static void registrations(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    int fd = moved(), file = open("/proc/self/exe", O_RDONLY);
    fact("added", "%s", control(EPOLL_CTL_ADD, fd, EPOLLIN));
    fact("added twice", "%s", control(EPOLL_CTL_ADD, fd, EPOLLIN));
    fact("deleted", "%s", control(EPOLL_CTL_DEL, fd, 0));
    fact("deleted twice", "%s", control(EPOLL_CTL_DEL, fd, 0));
    fact("modified though not there", "%s", control(EPOLL_CTL_MOD, fd, EPOLLIN));
    fact("no such action", "%s", control(7, fd, EPOLLIN));
    fact("itself", "%s", control(EPOLL_CTL_ADD, set, EPOLLIN));
    fact("a file", "%s", control(EPOLL_CTL_ADD, file, EPOLLIN));
    fact("no descriptor", "%s", control(EPOLL_CTL_ADD, -1, EPOLLIN));
    fact("no set", "%s", r(epoll_ctl(fd, EPOLL_CTL_ADD, fd, &event)));
    fact("no event", "%s", r(epoll_ctl(set, EPOLL_CTL_ADD, fd, NULL)));
    control(EPOLL_CTL_ADD, fd, EPOLLIN);
    fact("delete without an event", "%s", r(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL)));
    fact("exclusive with one-shot", "%s", control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT));
    fact("exclusive with RDHUP", "%s", control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP));
    fact("exclusive", "%s", control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE));
    fact("exclusive modified", "%s", control(EPOLL_CTL_MOD, fd, EPOLLIN));
    fact("exclusive deleted", "%s", control(EPOLL_CTL_DEL, fd, 0));
    control(EPOLL_CTL_ADD, fd, EPOLLIN);
    fact("modified to exclusive", "%s", control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLEXCLUSIVE));
    fact("no room", "%s", r(epoll_wait(set, &event, 0, 0)));
    fact("negative room", "%s", r(epoll_wait(set, &event, -1, 0)));
    fact("wait on no set", "%s", r(epoll_wait(fd, &event, 1, 0)));
    fact("wait on no descriptor", "%s", r(epoll_wait(-1, &event, 1, 0)));
    fact("create with size 0", "%s", r(epoll_create(0)));
    fact("create with bad flags", "%s", r(epoll_create1(1)));
    int cloexec = epoll_create1(EPOLL_CLOEXEC);
    fact("cloexec", "%d %d", fcntl(cloexec, F_GETFD), fcntl(set, F_GETFD));
    fact("read from a set", "%s", r(read(set, &event, sizeof event)));
    fact("write to a set", "%s", r(write(set, &event, sizeof event)));
    close(fd);
    fact("closed is gone", "%s", control(EPOLL_CTL_DEL, fd, 0));
}

void subject(void)
{
    set = epoll_create(1);
    readiness();
    reset();
    full();
    registrations();
}
