/* dup, dup2, dup3, F_DUPFD: what the numbers stand for, and which close is the last. */
#include "facts.h"
#include <linux/close_range.h>

static char room[64];

static const char *receive(int fd) { return text(recv(fd, room, sizeof room, 0), room); }

void subject(void)
{
    int fd = moved(), twin = dup(fd), third = dup2(fd, 200), fourth = dup3(fd, 201, O_CLOEXEC);
    int fifth = fcntl(fd, F_DUPFD, 100), sixth = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    fact("numbers", "%d %d %d %d", third, fourth, fifth, sixth);
    fact("cloexec", "%d %d %d %d %d", fcntl(twin, F_GETFD), fcntl(third, F_GETFD), fcntl(fourth, F_GETFD),
         fcntl(fifth, F_GETFD), fcntl(sixth, F_GETFD));
    send(twin, "a", 1, 0), send(third, "b", 1, 0), write(fourth, "c", 1), write(fifth, "d", 1), send(sixth, "e", 1, 0);
    fact("all send in one stream", "%s", peer_wait_read(fd, 64));
    peer_send(fd, "xyz");
    fact("a twin reads", "%s", text(read(sixth, room, 2), room));
    fact("another the rest", "%s", receive(third));
    close(third), close(fourth), close(fifth), close(sixth);
    fact("four closed: the peer", "%s", bits(peer_poll(fd)));
    int number = fd;
    close(fd);
    fact("closed number", "%s", r(send(number, "x", 1, 0)));
    fact("closed number: poll", "%s", bits(looked(number, 0)));
    send(twin, "only the twin", 13, 0);
    fact("the twin goes on", "%s", peer_wait_read(fd, 64));
    fact("onto the old number", "%d", dup2(twin, number) == number);
    close(twin);
    peer_send(number, "back");
    fact("the old number again", "%s", receive(number));
    fact("onto itself", "%d", dup2(number, number) == number);
    fact("dup3 onto itself", "%s", r(dup3(number, number, 0)));
    fact("dup2 onto a bad number", "%s", r(dup2(number, -1)));
    fact("dup of a bad number", "%s", r(dup(twin)));
    fact("dup2 of a bad number", "%s", r(dup2(twin, number)));
    fact("which did not close it", "%s", bits(looked(number, 0)));
    fact("dup3 with bad flags", "%s", r(dup3(number, 200, O_APPEND)));
    fact("F_DUPFD beyond the limit", "%s", r(fcntl(number, F_DUPFD, 1 << 30)));

    /* Two connections, one laid over the other. */
    int other = moved();
    dup2(other, number);
    nap(20);
    fact("laid over: the old peer", "%s", peer_read(number, 8));
    peer_send(other, "new");
    fact("laid over: the new one", "%s", receive(number));
    close(other);
    peer_send(other, "on");
    fact("laid over: still", "%s", receive(number));
    close(number);
    nap(20);
    fact("laid over: closed", "%s", peer_read(other, 8));

    /* Ranges. */
    fd = moved();
    int high = fcntl(fd, F_DUPFD, 300);
    fact("close_range", "%s", r(close_range(300, 400, 0)));
    fact("close_range closed the twin", "%s", r(fcntl(high, F_GETFD)));
    fact("close_range left the other", "%s", bits(looked(fd, 0)));
    fact("close_range, cloexec", "%s", r(close_range(fd, fd, CLOSE_RANGE_CLOEXEC)));
    fact("close_range, cloexec: the flag", "%d", fcntl(fd, F_GETFD));
    fact("close_range, bad", "%s", r(close_range(5, 4, 0)));
    close_range(fd, fd, 0);
    nap(20);
    fact("close_range closed it", "%s", peer_read(fd, 8));
    fact("close twice", "%s", r(close(fd)));

    /* A number of something else becomes a connection. */
    int file = open("/dev/null", O_RDWR);
    fd = moved();
    dup2(fd, file);
    close(fd);
    write(file, "was a file", 10);
    fact("a file's number", "%s", peer_wait_read(fd, 64));
    int null = open("/dev/null", O_RDWR);
    dup2(null, file);
    fact("and back", "%s", r(write(file, "to nobody", 9)));
    nap(20);
    fact("and back: the peer", "%s", peer_read(fd, 64));
}
