/* Many buffers and many messages: readv, writev, preadv, recvmsg, sendmsg, recvmmsg, sendmmsg, and their limits. */
#include "facts.h"
#include <limits.h>

static char a[8], b[8], c[8];

static void clear(void)
{
    memset(a, '.', sizeof a), memset(b, '.', sizeof b), memset(c, '.', sizeof c);
}

static void buffers(int fd)
{
    struct iovec out[3] = {{"abc", 3}, {"", 0}, {"defgh", 5}};
    fact("writev", "%s", r(writev(fd, out, 3)));
    fact("writev arrives", "%s", peer_wait_read(fd, 64));
    fact("writev of nothing", "%s", r(writev(fd, out, 0)));
    fact("writev of empty parts", "%s", r(writev(fd, &out[1], 1)));
    fact("writev, negative count", "%s", r(writev(fd, out, -1)));
    static struct iovec many[IOV_MAX + 1];
    for (int at = 0; at <= IOV_MAX; at++)
        many[at] = (struct iovec){"x", 1};
    fact("writev, most parts", "%s", r(writev(fd, many, IOV_MAX)));
    for (int left = IOV_MAX; left > 0; left -= 256)
        peer_wait_read(fd, 256);
    fact("writev, too many parts", "%s", r(writev(fd, many, IOV_MAX + 1)));
    struct msghdr message = {.msg_iov = many, .msg_iovlen = IOV_MAX + 1};
    fact("sendmsg, too many parts", "%s", r(sendmsg(fd, &message, 0)));
    fact("recvmsg, too many parts", "%s", r(recvmsg(fd, &message, MSG_DONTWAIT)));
    peer_send(fd, "0123456789");
    struct iovec in[3] = {{a, 4}, {b, 0}, {c, 8}};
    clear();
    long got = readv(fd, in, 3);
    fact("readv", "%s %.4s %.2s %.6s", r(got), a, b, c);
    fact("pread", "%s", r(pread(fd, a, 4, 0)));
    fact("pwrite", "%s", r(pwrite(fd, a, 4, 0)));
    fact("preadv", "%s", r(preadv(fd, in, 3, 0)));
    fact("preadv2 at 0", "%s", r(preadv2(fd, in, 3, 0, 0)));
    fact("preadv2, no wait", "%s", r(preadv2(fd, in, 3, -1, RWF_NOWAIT)));
    fact("pwritev2", "%s", r(pwritev2(fd, out, 3, -1, 0)));
    fact("lseek", "%s", r(lseek(fd, 0, SEEK_CUR)));
    peer_wait_read(fd, 64);
}

static void messages(int fd)
{
    struct iovec out[2] = {{"head", 4}, {"tail", 4}}, in[2] = {{a, 3}, {b, 8}};
    struct msghdr message = {.msg_iov = out, .msg_iovlen = 2};
    fact("sendmsg", "%s", r(sendmsg(fd, &message, 0)));
    fact("sendmsg with EOR", "%s", r(sendmsg(fd, &message, MSG_EOR)));
    nap(10);
    fact("sendmsg arrives", "%s", peer_wait_read(fd, 64));
    message.msg_iovlen = 0;
    fact("sendmsg of nothing", "%s", r(sendmsg(fd, &message, 0)));
    struct sockaddr_in name = {0};
    char control[64];
    message = (struct msghdr){&name, sizeof name, in, 2, control, sizeof control, -1};
    clear();
    peer_send(fd, "wxyz");
    long got = recvmsg(fd, &message, 0);
    fact("recvmsg", "%s %.3s %.1s, name %d, control %zu, flags %#x", r(got), a, b, message.msg_namelen,
         message.msg_controllen, message.msg_flags);
    peer_send(fd, "wxyz");
    got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    fact("recvmsg, CMSG_CLOEXEC", "%s flags %s", r(got), message.msg_flags == MSG_CMSG_CLOEXEC ? "CLOEXEC" : "other");
    peer_send(fd, "wxyz");
    message.msg_iovlen = 1;
    got = recvmsg(fd, &message, MSG_TRUNC);
    fact("recvmsg, TRUNC", "%s, flags %#x", r(got), message.msg_flags);
    recv(fd, a, 8, MSG_DONTWAIT);
    message.msg_flags = -1;
    got = recvmsg(fd, &message, MSG_DONTWAIT);
    fact("recvmsg, empty", "%s", r(got));
    message.msg_iovlen = 0;
    peer_send(fd, "q");
    fact("recvmsg without room", "%s", r(recvmsg(fd, &message, 0)));
    fact("recv after it", "%s", r(recv(fd, a, 8, MSG_DONTWAIT)));
    fact("sendto with an address", "%s", r(sendto(fd, "x", 1, 0, (struct sockaddr *)&name, sizeof name)));
    socklen_t size = sizeof name;
    peer_send(fd, "q");
    got = recvfrom(fd, a, 8, 0, (struct sockaddr *)&name, &size);
    fact("recvfrom with a name", "%s %u", r(got), size);
    fact("the peer has", "%s", peer_wait_read(fd, 64));
}

static void many_messages(int fd)
{
    struct iovec parts[3] = {{"one", 3}, {"two", 3}, {"three", 5}}, rooms[3] = {{a, 8}, {b, 8}, {c, 8}};
    struct mmsghdr out[3] = {0}, in[3] = {0};
    for (int at = 0; at < 3; at++) {
        out[at].msg_hdr = (struct msghdr){.msg_iov = &parts[at], .msg_iovlen = 1};
        in[at].msg_hdr = (struct msghdr){.msg_iov = &rooms[at], .msg_iovlen = 1};
    }
    int sent = sendmmsg(fd, out, 3, 0);
    fact("sendmmsg", "%s: %u %u %u", r(sent), out[0].msg_len, out[1].msg_len, out[2].msg_len);
    fact("sendmmsg arrives", "%s", peer_wait_read(fd, 64));
    fact("sendmmsg of none", "%s", r(sendmmsg(fd, out, 0, 0)));
    peer_send(fd, "0123456789abcdefghij");
    int got = recvmmsg(fd, in, 3, 0, NULL);
    fact("recvmmsg", "%s: %u %u %u", r(got), in[0].msg_len, in[1].msg_len, in[2].msg_len);
    peer_send(fd, "only one");
    got = recvmmsg(fd, in, 3, MSG_WAITFORONE, NULL);
    fact("recvmmsg, WAITFORONE", "%s: %u", r(got), in[0].msg_len);
    fact("recvmmsg, DONTWAIT", "%s", r(recvmmsg(fd, in, 3, MSG_DONTWAIT, NULL)));
    fact("recvmmsg of none", "%s", r(recvmmsg(fd, in, 0, MSG_DONTWAIT, NULL)));
    struct timespec bad = {0, -1};
    fact("recvmmsg, bad time", "%s", r(recvmmsg(fd, in, 3, 0, &bad)));
    peer_send(fd, "01234567");
    peer_shutdown(fd, SHUT_WR);
    got = recvmmsg(fd, in, 3, 0, NULL);
    fact("recvmmsg up to the end", "%s: %u %u", r(got), in[0].msg_len, in[1].msg_len);
    shutdown(fd, SHUT_WR);
    fact("sendmmsg after SHUT_WR", "%s", r(sendmmsg(fd, out, 3, MSG_NOSIGNAL)));
}

void subject(void)
{
    int fd = moved();
    buffers(fd);
    messages(fd);
    fd = moved();
    many_messages(fd);
    close(fd);
}
