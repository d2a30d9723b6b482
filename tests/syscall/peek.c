/* Flags of recv: PEEK, TRUNC, WAITALL, DONTWAIT; low-water marks, SO_PEEK_OFF, FIONREAD. */
#include "facts.h"

static char room[256];

static const char *receive(int fd, long count, int flags)
{
    memset(room, '?', sizeof room);
    return text(recv(fd, room, count, flags), room);
}

static int queued(int fd)
{
    int count = -1;
    ioctl(fd, FIONREAD, &count);
    return count;
}

static void flags(void)
{
    int fd = moved();
    fact("empty", "%s", receive(fd, 8, MSG_DONTWAIT));
    fact("peek, empty", "%s", receive(fd, 8, MSG_DONTWAIT | MSG_PEEK));
    fact("no bytes asked, empty", "%s", r(recv(fd, room, 0, MSG_DONTWAIT)));
    peer_send(fd, "abcdefgh");
    fact("peek", "%s", receive(fd, 3, MSG_PEEK));
    fact("peek again", "%s", receive(fd, 5, MSG_PEEK));
    fact("FIONREAD", "%d", queued(fd));
    fact("no bytes asked", "%s", r(recv(fd, room, 0, 0)));
    fact("TRUNC", "%s", r(recv(fd, room, 2, MSG_TRUNC)));
    fact("PEEK and TRUNC", "%s", r(recv(fd, room, 64, MSG_PEEK | MSG_TRUNC)));
    fact("TRUNC without room", "%s", r(recv(fd, NULL, 2, MSG_TRUNC)));
    fact("the rest", "%s", receive(fd, 64, 0));
    fact("FIONREAD, empty", "%d", queued(fd));
    peer_send(fd, "12");
    later(30);
    peer_send(fd, "345");
    fact("WAITALL", "%s", receive(fd, 5, MSG_WAITALL));
    peer_done();
    peer_send(fd, "12");
    fact("WAITALL and DONTWAIT", "%s", receive(fd, 5, MSG_WAITALL | MSG_DONTWAIT));
    peer_send(fd, "ab");
    later(30);
    peer_send(fd, "cd");
    fact("WAITALL and PEEK", "%s", receive(fd, 4, MSG_WAITALL | MSG_PEEK));
    peer_done();
    fact("after it", "%s", receive(fd, 64, 0));
    peer_send(fd, "end");
    later(30);
    peer_shutdown(fd, SHUT_WR);
    fact("WAITALL up to the end", "%s", receive(fd, 10, MSG_WAITALL));
    peer_done();
    fact("WAITALL at the end", "%s", receive(fd, 10, MSG_WAITALL));
    fact("PEEK at the end", "%s", receive(fd, 10, MSG_PEEK));
    fact("FIONREAD at the end", "%d", queued(fd));
    fact("ERRQUEUE", "%s", receive(fd, 10, MSG_ERRQUEUE));
    close(fd);
}

static void peek_across_the_end(void)
{
    int fd = moved();
    peer_send(fd, "tail");
    peer_close(fd);
    nap(20);
    fact("closed: peek", "%s", receive(fd, 64, MSG_PEEK));
    fact("closed: FIONREAD", "%d", queued(fd));
    fact("closed: read", "%s", receive(fd, 64, 0));
    fact("closed: peek at the end", "%s", receive(fd, 64, MSG_PEEK));
    close(fd);
}

static void low_water(void)
{
    int fd = moved(), low = 4, value = 0;
    socklen_t size = sizeof value;
    fact("low-water mark", "%s", r(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low)));
    getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, &size);
    fact("low-water mark read back", "%d", value);
    later(30);
    peer_send(fd, "abcd");
    fact("read at the mark", "%s", receive(fd, 64, 0));
    peer_done();
    peer_send(fd, "ab");
    fact("non-blocking below the mark", "%s", receive(fd, 64, MSG_DONTWAIT));
    peer_send(fd, "ab");
    fact("less asked than the mark", "%s", receive(fd, 2, 0));
    struct timeval limit = {0, 50000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    peer_send(fd, "ab");
    fact("time-out below the mark", "%s", receive(fd, 64, 0));
    low = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low);
    getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, &size);
    fact("mark of 0", "%d", value);
    low = -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low);
    getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, &size);
    fact("mark of -1", "%d", value);
    low = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low);
    fact("send low-water mark", "%s", r(setsockopt(fd, SOL_SOCKET, SO_SNDLOWAT, &low, sizeof low)));
    close(fd);
}

static void peek_offset(void)
{
    int fd = fresh(), offset = 2, value = -5;
    socklen_t size = sizeof value;
    exchange(fd, 1);
    int set = setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset);
    if (set < 0) {
        fact("SO_PEEK_OFF", "not here");
        close(fd);
        return;
    }
    peer_send(fd, "abcdefgh");
    fact("SO_PEEK_OFF", "%s", receive(fd, 2, MSG_PEEK));
    getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &value, &size);
    fact("SO_PEEK_OFF moves on", "%d", value);
    fact("SO_PEEK_OFF next", "%s", receive(fd, 2, MSG_PEEK));
    fact("SO_PEEK_OFF: read", "%s", receive(fd, 3, 0));
    getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &value, &size);
    fact("SO_PEEK_OFF after a read", "%d", value);
    fact("SO_PEEK_OFF: last", "%s", receive(fd, 8, MSG_PEEK));
    close(fd);
    fd = moved();
    peer_send(fd, "abcdefgh");
    peer_sleeps(fd, IN_RECV);
    fact("SO_PEEK_OFF, moved", "%s", r(setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset)));
    fact("SO_PEEK_OFF, moved: peek", "%s", receive(fd, 2, MSG_PEEK));
    fact("SO_PEEK_OFF, moved: next", "%s", receive(fd, 2, MSG_PEEK));
    send(fd, "wake up", 7, 0);
    close(fd);
}

void subject(void)
{
    flags();
    peek_across_the_end();
    low_water();
    peek_offset();
}
