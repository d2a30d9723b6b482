/* Edge-triggered and one-shot epoll: when an edge comes, and that none comes twice. */
#include "facts.h"

static int set;

static const char *ask(int milliseconds)
{
    struct epoll_event event = {0};
    int count = epoll_wait(set, &event, 1, milliseconds);
    return count == 1 ? bits(event.events) : r(count);
}

/* What one look and the next give. */
static const char *once(int milliseconds)
{
    static char line[128];
    const char *first = ask(milliseconds);
    snprintf(line, sizeof line, "%s, then %s", first, ask(QUIET));
    return line;
}

static void control(int action, int fd, unsigned events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(set, action, fd, &event);
}

static void arrivals(void)
{
    char room[64];
    int fd = moved();
    control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET);
    fact("empty", "%s", ask(QUIET));
    peer_send(fd, "one");
    fact("data", "%s", once(SOON));
    peer_send(fd, "two");
    fact("more data", "%s", once(SOON));
    read(fd, room, 2);
    fact("partly read", "%s", ask(QUIET));
    peer_send(fd, "three");
    fact("data on unread data", "%s", once(SOON));
    read(fd, room, 64);
    fact("all read", "%s", ask(QUIET));
    peer_send(fd, "a");
    peer_send(fd, "b");
    fact("two arrivals, one look", "%s", once(SOON));
    control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLET);
    fact("modified with data", "%s", once(0));
    control(EPOLL_CTL_DEL, fd, 0);
    control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET);
    fact("added anew with data", "%s", once(0));
    read(fd, room, 64);
    peer_send(fd, "gone");
    read(fd, room, 64);
    fact("read before the look", "%s", ask(QUIET));
    recv(fd, room, 64, MSG_DONTWAIT);
    peer_send(fd, "c");
    fact("after EAGAIN", "%s", ask(SOON));
    send(fd, "x", 1, 0);
    fact("own send", "%s", ask(QUIET));
    peer_shutdown(fd, SHUT_WR);
    fact("end", "%s", once(SOON));
    shutdown(fd, SHUT_WR);
    fact("own end", "%s", once(SOON));
    close(fd);
}

static void both_directions(void)
{
    char room[64];
    int fd = moved();
    control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    fact("added", "%s", once(0));
    peer_send(fd, "data");
    fact("data, writable", "%s", once(SOON));
    send(fd, "x", 1, 0);
    fact("a send that leaves room", "%s", ask(QUIET));
    long sent = fill(fd);
    fact("filled", "%s", ask(QUIET));
    later(20);
    peer_take(fd, 1);
    peer_done();
    later(20);
    peer_drain(fd);
    fact("room again", "%s", ask(SOON));
    read(fd, room, 64);
    shutdown(fd, SHUT_WR);
    peer_done();
    while (strcmp(ask(QUIET), "0") != 0)
        ;
    fact("sent something", "%d", sent > 0);
    peer_close(fd);
    fact("closed by the peer", "%s", once(SOON));
    close(fd);
}

static void ends(void)
{
    int fd = moved();
    control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
    peer_shutdown(fd, SHUT_WR);
    fact("half-close", "%s", once(SOON));
    peer_reset(fd);
    nap(20);
    fact("reset after it", "%s", once(SOON));
    close(fd);

    fd = moved();
    control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET);
    peer_send(fd, "unread");
    peer_close(fd);
    nap(20);
    fact("data and close", "%s", once(SOON));
    close(fd);

    fd = moved();
    control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET);
    shutdown(fd, SHUT_RD);
    fact("own SHUT_RD", "%s", once(SOON));
    close(fd);

    fd = moved();
    control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
    shutdown(fd, SHUT_RDWR);
    fact("own SHUT_RDWR", "%s", ask(SOON));
    close(fd);
}

static void oneshot(void)
{
    char room[64];
    int fd = moved();
    control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT);
    peer_send(fd, "one");
    fact("one-shot", "%s", once(SOON));
    peer_send(fd, "two");
    fact("one-shot spent, more data", "%s", ask(QUIET));
    control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT);
    fact("one-shot armed with data", "%s", once(SOON));
    read(fd, room, 64);
    control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT);
    fact("one-shot armed without data", "%s", ask(QUIET));
    peer_send(fd, "three");
    fact("one-shot, then data", "%s", ask(SOON));
    control(EPOLL_CTL_MOD, fd, EPOLLOUT | EPOLLONESHOT | EPOLLET);
    fact("one-shot and edge", "%s", once(SOON));
    peer_close(fd);
    fact("one-shot spent, closed", "%s", ask(QUIET));
    control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP | EPOLLONESHOT);
    fact("one-shot armed, closed", "%s", once(SOON));
    close(fd);

    fd = moved();
    control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT);
    peer_send(fd, "x");
    ask(SOON);
    peer_reset(fd);
    nap(20);
    fact("one-shot spent, reset", "%s", ask(QUIET));
    control(EPOLL_CTL_MOD, fd, EPOLLONESHOT);
    fact("one-shot armed for nothing, reset", "%s", once(SOON));
    close(fd);
}

void subject(void)
{
    set = epoll_create1(0);
    arrivals();
    both_directions();
    ends();
    oneshot();
}
