/* Sockets and messages. */
#define _GNU_SOURCE
#include "conformance.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

/* A listener of a family, and the address at which a socket of another one, or the same, reaches it. */
static int listener_for(int near, int peer, int receive_buffer, struct sockaddr_storage *address, socklen_t *length)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 here6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int listener = socket(near, SOCK_STREAM, 0);
    if (receive_buffer)
        set_option(listener, SOL_SOCKET, SO_RCVBUF, receive_buffer);
    *length = near == AF_INET ? sizeof here : sizeof any;
    if (bind(listener, near == AF_INET ? (void *)&here : (void *)&any, *length) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)address, length))
        die("listen");
    in_port_t port = ((struct sockaddr_in *)address)->sin_port; /* in the same place in both families */
    here.sin_port = here6.sin6_port = port;
    *length = peer == AF_INET ? sizeof here : sizeof here6;
    memcpy(address, peer == AF_INET ? (void *)&here : (void *)&here6, *length);
    return listener;
}

static struct tcp connected(int near, int peer, int receive_buffer, int send_buffer)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    struct tcp pair;
    int listener = listener_for(near, peer, receive_buffer, &address, &length);
    pair.peer = socket(peer, SOCK_STREAM, 0);
    if (receive_buffer)
        set_option(pair.peer, SOL_SOCKET, SO_RCVBUF, receive_buffer);
    if (connect(pair.peer, (struct sockaddr *)&address, length))
        die("connect");
    pair.near = accept(listener, NULL, NULL);
    if (pair.near < 0)
        die("accept");
    close(listener);
    int ends[2] = {pair.near, pair.peer};
    for (int i = 0; i < 2; i++) {
        set_option(ends[i], IPPROTO_TCP, TCP_NODELAY, 1);
        if (send_buffer)
            set_option(ends[i], SOL_SOCKET, SO_SNDBUF, send_buffer);
        fcntl(ends[i], F_SETFL, O_RDWR | O_NONBLOCK);
    }
    return pair;
}

struct tcp tcp_pair_with(int receive_buffer, int send_buffer)
{
    return connected(AF_INET, AF_INET, receive_buffer, send_buffer);
}

struct tcp tcp_pair_of(int near, int peer)
{
    return connected(near, peer, 0, 0);
}

struct tcp tcp_pair(void)
{
    return tcp_pair_with(0, 0);
}

int kcm(int type)
{
    int fd = socket(AF_KCM, type | SOCK_NONBLOCK, KCMPROTO_CONNECTED);
    if (fd < 0)
        die("socket(AF_KCM)");
    return fd;
}

int attach(int kcm_fd, int tcp_fd, int program)
{
    struct kcm_attach what = {.fd = tcp_fd, .bpf_fd = program};
    return ioctl(kcm_fd, SIOCKCMATTACH, &what);
}

int unattach(int kcm_fd, int tcp_fd)
{
    struct kcm_unattach what = {.fd = tcp_fd};
    return ioctl(kcm_fd, SIOCKCMUNATTACH, &what);
}

int clone_of(int kcm_fd)
{
    struct kcm_clone what = {.fd = -7};
    if (ioctl(kcm_fd, SIOCKCMCLONE, &what))
        return -1;
    fcntl(what.fd, F_SETFL, O_RDWR | O_NONBLOCK);
    return what.fd;
}

int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, level, name, &value, &length) ? -1 : value;
}

int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value);
}

int recv_disable(int kcm_fd, int value)
{
    return set_option(kcm_fd, SOL_KCM, KCM_RECV_DISABLE, value);
}

void limit_time(int fd, int name, int limit)
{
    struct timeval time = {.tv_sec = limit / 1000, .tv_usec = limit % 1000 * 1000};
    if (setsockopt(fd, SOL_SOCKET, name, &time, sizeof time))
        die("setting a time-out");
}

struct scene scene_with(int type, int program)
{
    struct scene scene = {.k = kcm(type), .tcp = tcp_pair()};
    if (attach(scene.k, scene.tcp.near, program))
        die("attach");
    return scene;
}

struct scene scene(int type)
{
    return scene_with(type, parser_be32());
}

size_t put_message(void *to, char letter, size_t payload)
{
    uint32_t length = htonl((uint32_t)payload);
    memcpy(to, &length, sizeof length);
    memset((char *)to + sizeof length, letter, payload);
    return sizeof length + payload;
}

void send_bytes(int tcp_fd, const void *data, size_t length)
{
    if (send(tcp_fd, data, length, MSG_NOSIGNAL) != (ssize_t)length)
        die("send by the peer");
}

void send_message(int tcp_fd, char letter, size_t payload)
{
    char *message = malloc(payload + 4);
    send_bytes(tcp_fd, message, put_message(message, letter, payload));
    free(message);
}

static void await(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    for (int tries = 0; poll(&one, 1, quiet) == 0 && others_run() && tries < 10; tries++)
        ;
}

const char *receive(int fd, size_t space, int flags)
{
    char *buffer = malloc(space + 1);
    struct iovec part = {.iov_base = buffer, .iov_len = space};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    await(fd);
    ssize_t got = recvmsg(fd, &header, flags);
    const char *answer = got < 0 ? result(got)
                                 : text("%zd %s %s", got, message_flags(header.msg_flags),
                                        quoted(buffer, (size_t)got < space ? (size_t)got : space));
    free(buffer);
    return answer;
}

const char *drain(int kcm_fd)
{
    static char buffer[1 << 20];
    char line[1500];
    size_t used = 0;
    for (;;) {
        await(kcm_fd);
        ssize_t got = recv(kcm_fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (got < 0)
            return text("%s%s", used ? line : "", error_name(errno));
        /* One letter throughout names the message; anything else is shown. */
        int uniform = got > 4;
        for (ssize_t i = 5; i < got; i++)
            uniform &= buffer[i] == buffer[4];
        const char *what =
            uniform && buffer[4] >= ' ' && buffer[4] <= '~' ? text("%c", buffer[4]) : quoted(buffer, (size_t)got);
        used += (size_t)snprintf(line + used, sizeof line - used, "%s(%zd),", what, got);
        if (used > sizeof line - 200 || got == 0)
            return text("%s...", line);
    }
}

size_t swallow(int tcp_fd, char *buffer, size_t most)
{
    size_t got = 0;
    while (got < most) {
        await(tcp_fd);
        ssize_t more = recv(tcp_fd, buffer + got, most - got, MSG_DONTWAIT);
        if (more <= 0)
            break;
        got += (size_t)more;
    }
    return got;
}

const char *stream(int tcp_fd)
{
    enum { most = 4 << 20 };
    char *buffer = malloc(most);
    size_t got = swallow(tcp_fd, buffer, most);
    char byte;
    ssize_t next = recv(tcp_fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    const char *end = next == 0 ? "+EOF" : next < 0 && errno != EAGAIN ? text("+%s", error_name(errno)) : "";
    const char *answer = text("%s%s", quoted(buffer, got), end);
    free(buffer);
    return answer;
}

const char *polled_for(int fd, short asked, int wait)
{
    struct pollfd one = {.fd = fd, .events = asked};
    int ready = poll(&one, 1, wait);
    return ready < 0 ? result(ready) : events((unsigned short)one.revents);
}

const char *polled(int fd)
{
    return polled_for(fd, POLLIN | POLLPRI | POLLOUT | POLLRDHUP, 0);
}

const char *socket_error(int fd)
{
    return error_name(option(fd, SOL_SOCKET, SO_ERROR));
}
