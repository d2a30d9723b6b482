/* Options, ioctls and fcntls of a connection in use, and what the kernel tells about it. */
#include "facts.h"
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/stat.h>

static int fd;

static const char *option(int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;
    return getsockopt(fd, level, name, &value, &size) < 0 ? error(errno) : r(value);
}

static const char *set(int level, int name, int value)
{
    return r(setsockopt(fd, level, name, &value, sizeof value));
}

static int ioctl_value(unsigned long request)
{
    int value = -1;
    return ioctl(fd, request, &value) < 0 ? -errno : value;
}

static void plain_options(void)
{
    fact("SO_TYPE", "%s", option(SOL_SOCKET, SO_TYPE));
    fact("SO_DOMAIN", "%s", option(SOL_SOCKET, SO_DOMAIN));
    fact("SO_PROTOCOL", "%s", option(SOL_SOCKET, SO_PROTOCOL));
    fact("SO_ACCEPTCONN", "%s", option(SOL_SOCKET, SO_ACCEPTCONN));
    fact("SO_ERROR", "%s", option(SOL_SOCKET, SO_ERROR));
    fact("TCP_NODELAY", "%s", option(IPPROTO_TCP, TCP_NODELAY));
    const char *done = set(IPPROTO_TCP, TCP_NODELAY, 0);
    fact("TCP_NODELAY off", "%s %s", done, option(IPPROTO_TCP, TCP_NODELAY));
    done = set(SOL_SOCKET, SO_KEEPALIVE, 1);
    fact("SO_KEEPALIVE", "%s %s", done, option(SOL_SOCKET, SO_KEEPALIVE));
    done = set(IPPROTO_TCP, TCP_KEEPIDLE, 17);
    fact("TCP_KEEPIDLE", "%s %s", done, option(IPPROTO_TCP, TCP_KEEPIDLE));
    done = set(IPPROTO_TCP, TCP_USER_TIMEOUT, 1234);
    fact("TCP_USER_TIMEOUT", "%s %s", done, option(IPPROTO_TCP, TCP_USER_TIMEOUT));
    done = set(SOL_SOCKET, SO_SNDBUF, 30000);
    fact("SO_SNDBUF", "%s %s", done, option(SOL_SOCKET, SO_SNDBUF));
    done = set(SOL_SOCKET, SO_RCVBUF, 30000);
    fact("SO_RCVBUF", "%s %s", done, option(SOL_SOCKET, SO_RCVBUF));
    done = set(IPPROTO_TCP, TCP_QUICKACK, 0);
    fact("TCP_QUICKACK", "%s", done);
    done = set(IPPROTO_TCP, TCP_CORK, 1);
    fact("TCP_CORK", "%s %s", done, option(IPPROTO_TCP, TCP_CORK));
    done = set(IPPROTO_TCP, TCP_CORK, 0);
    fact("TCP_CORK off", "%s %s", done, option(IPPROTO_TCP, TCP_CORK));
    done = set(SOL_SOCKET, SO_BUSY_POLL, 0);
    fact("SO_BUSY_POLL", "%s", done);
    fact("SO_LINGER, short", "%s", set(SOL_SOCKET, SO_LINGER, 1));
    fact("no such option", "%s", set(SOL_SOCKET, 9999, 1));
    fact("no such option read", "%s", option(IPPROTO_TCP, 9999));
    fact("no such level", "%s", option(77, 1));
    fact("no value", "%s", r(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, NULL, 4)));
    struct tcp_info info;
    socklen_t size = sizeof info;
    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
    fact("TCP_INFO: state", "%d", info.tcpi_state);
    char name[32] = "";
    size = sizeof name;
    fact("TCP_CONGESTION", "%s", r(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &size)));
}

static void controls(void)
{
    char room[16];
    fact("FIONREAD", "%d", ioctl_value(FIONREAD));
    peer_send(fd, "12345");
    fact("FIONREAD with data", "%d", ioctl_value(FIONREAD));
    fact("SIOCINQ", "%d", ioctl_value(SIOCINQ));
    fact("SIOCATMARK", "%d", ioctl_value(SIOCATMARK));
    read(fd, room, 2);
    fact("FIONREAD, partly read", "%d", ioctl_value(FIONREAD));
    fact("SIOCOUTQ", "%d", ioctl_value(SIOCOUTQ));
    fact("SIOCOUTQNSD", "%d", ioctl_value(SIOCOUTQNSD));
    fact("no such ioctl", "%s", r(ioctl(fd, 0x12345678, room)));
    fact("TCGETS", "%s %d", r(ioctl(fd, 0x5401, room)), isatty(fd));
    peer_shutdown(fd, SHUT_WR);
    fact("FIONREAD, ended", "%d", ioctl_value(FIONREAD));
    read(fd, room, 16);
    fact("FIONREAD, end read", "%d", ioctl_value(FIONREAD));
    fact("FIONREAD of a listener", "%s", listener() < 0 ? "none" : r(ioctl(listener(), FIONREAD, room)));
}

static void flags(void)
{
    int on = 1, off = 0;
    char room[8];
    fact("flags", "%d", fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ASYNC | O_ACCMODE));
    ioctl(fd, FIONBIO, &on);
    fact("FIONBIO", "%d", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    fact("FIONBIO: read", "%s", r(read(fd, room, 8)));
    int twin = dup(fd);
    fact("twin is non-blocking", "%d", (fcntl(twin, F_GETFL) & O_NONBLOCK) != 0);
    ioctl(twin, FIONBIO, &off);
    fact("blocking through the twin", "%d", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    fcntl(twin, F_SETFL, O_NONBLOCK);
    fact("F_SETFL through the twin", "%s", r(read(fd, room, 8)));
    fcntl(fd, F_SETFL, 0);
    later(20);
    peer_send(fd, "x");
    fact("blocking again", "%s", r(read(fd, room, 8)));
    peer_done();
    fact("F_GETFD", "%d", fcntl(fd, F_GETFD));
    ioctl(fd, FIOCLEX);
    fact("FIOCLEX", "%d %d", fcntl(fd, F_GETFD), fcntl(twin, F_GETFD));
    close(twin);
    struct stat stat;
    int result = fstat(fd, &stat);
    fact("fstat", "%d %d %ld", result, S_ISSOCK(stat.st_mode), (long)stat.st_size);
    fact("fsync", "%s", r(fsync(fd)));
    fact("ftruncate", "%s", r(ftruncate(fd, 0)));
    fact("fallocate", "%s", r(posix_fadvise(fd, 0, 0, 0)));
    fact("F_GETPIPE_SZ", "%s", r(fcntl(fd, F_GETPIPE_SZ)));
    fact("F_GETOWN", "%s", r(fcntl(fd, F_GETOWN)));
    struct flock lock = {.l_type = F_WRLCK};
    fact("F_SETLK", "%s", r(fcntl(fd, F_SETLK, &lock)));
    fact("fchdir", "%s", r(fchdir(fd)));
    fact("accept", "%s", r(accept(fd, NULL, NULL)));
    fact("listen", "%s", r(listen(fd, 1)));
    struct sockaddr_in to = address();
    fact("connect again", "%s", r(connect(fd, (void *)&to, sizeof to)));
    fact("bind", "%s", r(bind(fd, (void *)&to, sizeof to)));
    peer_send(fd, "alive");
    fact("alive", "%s", r(read(fd, room, 8)));
}

/* What the error queue says of sends with MSG_ZEROCOPY: from which to which they are done with. */
static const char *completed(int milliseconds)
{
    char control[128];
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
    struct pollfd entry = {fd, 0, 0};
    poll(&entry, 1, milliseconds);
    if (recvmsg(fd, &message, MSG_ERRQUEUE) < 0)
        return error(errno);
    struct sock_extended_err *told = (struct sock_extended_err *)CMSG_DATA(CMSG_FIRSTHDR(&message));
    static char answer[64];
    snprintf(answer, sizeof answer, "%d, %u to %u", told->ee_origin == SO_EE_ORIGIN_ZEROCOPY, told->ee_info, told->ee_data);
    return answer;
}

static void asked_whether(void)
{
    fd = fresh();
    const char *sent, *done = set(SOL_SOCKET, SO_ZEROCOPY, 1);
    fact("SO_ZEROCOPY", "%s %s", done, option(SOL_SOCKET, SO_ZEROCOPY));
    warm(fd);
    sent = r(send(fd, "copied", 6, 0));
    fact("SO_ZEROCOPY, no MSG_ZEROCOPY", "%s %s", sent, peer_wait_read(fd, 64));
    fact("SO_ZEROCOPY, no MSG_ZEROCOPY: completed", "%s", completed(0));
    done = set(SOL_SOCKET, SO_ZEROCOPY, 0);
    fact("SO_ZEROCOPY off", "%s %s", done, option(SOL_SOCKET, SO_ZEROCOPY));
    sent = r(send(fd, "also", 4, MSG_ZEROCOPY));
    fact("MSG_ZEROCOPY without it", "%s %s", sent, peer_wait_read(fd, 64));
    fact("MSG_ZEROCOPY without it: completed", "%s", completed(0));
    close(fd);
}

static void without_copies(void)
{
    const char *sent;
    fd = fresh();
    set(SOL_SOCKET, SO_ZEROCOPY, 1);
    exchange(fd, 1);
    sent = r(send(fd, "first", 5, MSG_ZEROCOPY));
    fact("MSG_ZEROCOPY", "%s %s", sent, peer_wait_read(fd, 64));
    fact("MSG_ZEROCOPY: completed", "%s", completed(SOON));
    exchange(fd, 12);
    sent = r(send(fd, "second", 6, MSG_ZEROCOPY));
    fact("MSG_ZEROCOPY again", "%s %s", sent, peer_wait_read(fd, 64));
    fact("MSG_ZEROCOPY again: completed", "%s", completed(SOON));
    close(fd);
    fd = moved();
    set(SOL_SOCKET, SO_ZEROCOPY, 1);
    fact("MSG_ZEROCOPY late: sent", "%s", r(send(fd, "third", 5, MSG_ZEROCOPY)));
    peer_send(fd, "alive");
    char room[8];
    fact("MSG_ZEROCOPY late: alive", "%s", text(read(fd, room, 8), room));
    close(fd);
}

void subject(void)
{
    fd = moved();
    plain_options();
    controls();
    close(fd);
    fd = moved();
    flags();
    close(fd);
    asked_whether();
    without_copies();
}
