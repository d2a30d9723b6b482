/* Urgent data: SIGURG, POLLPRI, the mark, SO_OOBINLINE; on connections that have moved, and ones that have not. */
#include "facts.h"

static volatile sig_atomic_t urgent;

static void on_urgent(int number)
{
    (void)number;
    urgent++;
}

static char room[64];

static const char *receive(int fd, long count, int flags)
{
    return text(recv(fd, room, count, flags | MSG_DONTWAIT), room);
}

static int queued(int fd)
{
    int count = -1;
    ioctl(fd, FIONREAD, &count);
    return count;
}

static const char *named(const char *when, const char *what)
{
    static char whole[96];
    snprintf(whole, sizeof whole, "%s%s", when, what);
    return whole;
}

static void works(const char *when, int fd)
{
    peer_send(fd, "hello");
    fact(named(when, "then"), "%s", text(recv(fd, room, sizeof room, 0), room));
    send(fd, "there", 5, MSG_NOSIGNAL);
    fact(named(when, "the peer then"), "%s", peer_wait_read(fd, 64));
}

static void out_of_band(const char *when, int fd)
{
    urgent = 0;
    fcntl(fd, F_SETOWN, getpid());
    handle(SIGURG, on_urgent, SA_RESTART);
    fact(named(when, "none yet"), "%s", receive(fd, 8, MSG_OOB));
    peer_send(fd, "abc");
    fact(named(when, "sent"), "%s", r(peer_oob(fd, "d!")));
    peer_send(fd, "efg");
    nap(20);
    fact(named(when, "signal"), "%d", urgent);
    fact(named(when, "poll"), "%s", bits(looked(fd, 0)));
    fact(named(when, "peeked"), "%s", receive(fd, 8, MSG_OOB | MSG_PEEK));
    fact(named(when, "received"), "%s", receive(fd, 8, MSG_OOB));
    fact(named(when, "received twice"), "%s", receive(fd, 8, MSG_OOB));
    fact(named(when, "poll after it"), "%s", bits(looked(fd, 0)));
    int marked = -1;
    ioctl(fd, SIOCATMARK, &marked);
    fact(named(when, "not at the mark"), "%d %d", marked, sockatmark(fd));
    fact(named(when, "up to the mark"), "%s", receive(fd, 64, 0));
    ioctl(fd, SIOCATMARK, &marked);
    fact(named(when, "at the mark"), "%d %d", marked, sockatmark(fd));
    fact(named(when, "behind the mark"), "%s", receive(fd, 64, 0));
    fact(named(when, "past the mark"), "%d", sockatmark(fd));
    fact(named(when, "empty"), "%s", receive(fd, 64, 0));
    fact(named(when, "own urgent byte"), "%s", r(send(fd, "u", 1, MSG_OOB)));
    fact(named(when, "the peer polls"), "%s", bits(peer_poll(fd)));
    works(when, fd);
    close(fd);
}

/* All of the peer's bytes but the urgent one lie before it, and the mark is where they end. */
static void at_the_end(const char *when, int fd)
{
    peer_send(fd, "abc");
    peer_oob(fd, "!");
    nap(20);
    fact(named(when, "not at the mark yet"), "%d", sockatmark(fd));
    fact(named(when, "part"), "%s", receive(fd, 2, 0));
    fact(named(when, "still not at the mark"), "%d", sockatmark(fd));
    fact(named(when, "the last before the mark"), "%s", receive(fd, 64, MSG_PEEK));
    fact(named(when, "up to it"), "%s", receive(fd, 64, 0));
    fact(named(when, "at it"), "%d", sockatmark(fd));
    peer_send(fd, "de");
    fact(named(when, "FIONREAD"), "%d", queued(fd));
    later(30);
    peer_send(fd, "fgh");
    fact(named(when, "more"), "%s", text(recv(fd, room, 5, MSG_WAITALL), room));
    peer_done();
    close(fd);
}

static void in_line(const char *when, int fd)
{
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
    peer_send(fd, "ab");
    peer_oob(fd, "c");
    peer_send(fd, "de");
    nap(20);
    fact(named(when, "inline: poll"), "%s", bits(looked(fd, 0)));
    fact(named(when, "inline: MSG_OOB"), "%s", receive(fd, 8, MSG_OOB));
    fact(named(when, "inline: before"), "%s", receive(fd, 64, 0));
    fact(named(when, "inline: mark"), "%d", sockatmark(fd));
    fact(named(when, "inline: from it"), "%s", receive(fd, 64, 0));
    close(fd);
}

static void select_and_epoll(const char *when, int fd)
{
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLPRI};
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    fact(named(when, "epoll: nothing urgent"), "%s", r(epoll_wait(set, &event, 1, QUIET)));
    peer_oob(fd, "x");
    int count = epoll_wait(set, &event, 1, SOON);
    fact(named(when, "epoll"), "%d %s", count, bits(event.events));
    fd_set except;
    FD_ZERO(&except);
    FD_SET(fd, &except);
    struct timeval limit = {1, 0};
    count = select(fd + 1, NULL, NULL, &except, &limit);
    fact(named(when, "select"), "%d %d", count, FD_ISSET(fd, &except));
    close(set);
    close(fd);
}

/* The peer hears of it whatever it does, and of what comes before and afterwards. */
static void to_a_peer(const char *when, int fd)
{
    send(fd, "before", 6, 0);
    fact(named(when, "sent"), "%s", r(send(fd, "d!", 2, MSG_OOB)));
    fact(named(when, "sent afterwards"), "%s", r(send(fd, "after", 5, 0)));
    fact(named(when, "the peer polls"), "%s", bits(peer_poll(fd)));
    fact(named(when, "the peer reads"), "%s", peer_wait_read(fd, 64));
    fact(named(when, "the peer reads on"), "%s", peer_wait_read(fd, 64));
    fact(named(when, "again"), "%s", r(send(fd, "?", 1, MSG_OOB)));
    works(when, fd);
    peer_oob(fd, "!");
    nap(20);
    fact(named(when, "answered"), "%s", receive(fd, 8, MSG_OOB));
    works(when, fd);
    shutdown(fd, SHUT_WR);
    fact(named(when, "shut"), "%s", r(send(fd, "?", 1, MSG_OOB | MSG_NOSIGNAL)));
    fact(named(when, "end"), "%s", peer_wait_read(fd, 64));
    peer_send(fd, "last");
    peer_close(fd);
    nap(20);
    fact(named(when, "last"), "%s", receive(fd, 64, 0));
    fact(named(when, "closed"), "%s", receive(fd, 64, 0));
    close(fd);
}

static void shut_before(void)
{
    int fd = moved();
    shutdown(fd, SHUT_WR);
    fact("shut before: sent", "%s", r(send(fd, "?", 1, MSG_OOB | MSG_NOSIGNAL)));
    fact("shut before: end", "%s", peer_wait_read(fd, 64));
    peer_send(fd, "more");
    fact("shut before: read", "%s", receive(fd, 64, 0));
    close(fd);
}

static int still(void)
{
    int fd = fresh();
    exchange(fd, 1);
    return fd;
}

void subject(void)
{
    static const char *sleeps[] = {"asleep in recv: ", "asleep in poll: ", "asleep in epoll_wait: "};
    out_of_band("", still());
    out_of_band("moved: ", moved());
    at_the_end("", still());
    at_the_end("moved: ", moved());
    in_line("", still());
    in_line("moved: ", moved());
    select_and_epoll("", still());
    select_and_epoll("moved: ", moved());
    to_a_peer("", still());
    to_a_peer("moved: ", moved());
    for (int in = IN_RECV; in <= IN_EPOLL; in++) {
        int fd = moved();
        peer_sleeps(fd, in);
        to_a_peer(sleeps[in], fd);
    }
    shut_before();
}
