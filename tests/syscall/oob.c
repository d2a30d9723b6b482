/* Urgent data: SIGURG, POLLPRI, the mark, SO_OOBINLINE; on connections that have not moved. */
#include "facts.h"

static volatile sig_atomic_t urgent;

static void on_urgent(int number)
{
    (void)number;
    urgent++;
}

static const char *receive(int fd, long count, int flags)
{
    static char room[64];
    return text(recv(fd, room, count, flags | MSG_DONTWAIT), room);
}

static void out_of_band(void)
{
    int fd = fresh();
    exchange(fd, 1);
    fcntl(fd, F_SETOWN, getpid());
    handle(SIGURG, on_urgent, SA_RESTART);
    fact("none yet", "%s", receive(fd, 8, MSG_OOB));
    peer_send(fd, "abc");
    fact("sent", "%s", r(peer_oob(fd, "d!")));
    peer_send(fd, "efg");
    nap(20);
    fact("signal", "%d", urgent);
    fact("poll", "%s", bits(looked(fd, 0)));
    fact("peeked", "%s", receive(fd, 8, MSG_OOB | MSG_PEEK));
    fact("received", "%s", receive(fd, 8, MSG_OOB));
    fact("received twice", "%s", receive(fd, 8, MSG_OOB));
    fact("poll after it", "%s", bits(looked(fd, 0)));
    int marked = -1;
    ioctl(fd, SIOCATMARK, &marked);
    fact("not at the mark", "%d %d", marked, sockatmark(fd));
    fact("up to the mark", "%s", receive(fd, 64, 0));
    ioctl(fd, SIOCATMARK, &marked);
    fact("at the mark", "%d %d", marked, sockatmark(fd));
    fact("behind the mark", "%s", receive(fd, 64, 0));
    fact("past the mark", "%d", sockatmark(fd));
    fact("empty", "%s", receive(fd, 64, 0));
    fact("own urgent byte", "%s", r(send(fd, "u", 1, MSG_OOB)));
    fact("the peer polls", "%s", bits(peer_poll(fd)));
    close(fd);
}

static void in_line(void)
{
    int fd = fresh(), on = 1;
    exchange(fd, 1);
    setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
    peer_send(fd, "ab");
    peer_oob(fd, "c");
    peer_send(fd, "de");
    nap(20);
    fact("inline: poll", "%s", bits(looked(fd, 0)));
    fact("inline: MSG_OOB", "%s", receive(fd, 8, MSG_OOB));
    fact("inline: before", "%s", receive(fd, 64, 0));
    fact("inline: mark", "%d", sockatmark(fd));
    fact("inline: from it", "%s", receive(fd, 64, 0));
    close(fd);
}

static void select_and_epoll(void)
{
    int fd = fresh(), set = epoll_create1(0);
    exchange(fd, 1);
    struct epoll_event event = {.events = EPOLLPRI};
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    fact("epoll: nothing urgent", "%s", r(epoll_wait(set, &event, 1, QUIET)));
    peer_oob(fd, "x");
    int count = epoll_wait(set, &event, 1, SOON);
    fact("epoll", "%d %s", count, bits(event.events));
    fd_set except;
    FD_ZERO(&except);
    FD_SET(fd, &except);
    struct timeval limit = {1, 0};
    count = select(fd + 1, NULL, NULL, &except, &limit);
    fact("select", "%d %d", count, FD_ISSET(fd, &except));
    close(set);
    close(fd);
}

static void after_moving(void)
{
    int fd = moved();
    fact("moved: none", "%s", receive(fd, 8, MSG_OOB));
    fact("moved: mark", "%d", sockatmark(fd));
    fact("moved: sent", "%s", r(send(fd, "d", 1, MSG_OOB)));
    close(fd);
}

void subject(void)
{
    out_of_band();
    in_line();
    select_and_epoll();
    after_moving();
}
