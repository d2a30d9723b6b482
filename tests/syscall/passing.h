/* Passing descriptors in messages of Unix sockets, and seeing that a connection works. */
#ifndef PASSING_H
#define PASSING_H

#include "facts.h"

#define MOST 8
#define HELPER static __attribute__((unused))

/* Sends descriptors, with one byte; answers what the call answered. */
HELPER long pass(int via, const int *fds, int count, int flags)
{
    char control[CMSG_SPACE(MOST * sizeof *fds)] = "";
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen = CMSG_SPACE(count * sizeof *fds);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(count * sizeof *fds);
    memcpy(CMSG_DATA(header), fds, count * sizeof *fds);
    return sendmsg(via, &message, flags);
}

HELPER long pass_one(int via, int fd)
{
    return pass(via, &fd, 1, MSG_NOSIGNAL);
}

HELPER int descriptors(struct msghdr *message, int *fds)
{
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    if (!header)
        return 0;
    int count = (header->cmsg_len - CMSG_LEN(0)) / sizeof *fds;
    memcpy(fds, CMSG_DATA(header), count * sizeof *fds);
    return count;
}

/* Receives at most `room` descriptors; answers how many, or -1. */
HELPER int take(int via, int *fds, int room, int flags, int *told)
{
    char control[CMSG_SPACE(MOST * sizeof *fds)], byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen = CMSG_LEN(room * sizeof *fds);
    if (recvmsg(via, &message, flags) != 1)
        return -1;
    if (told)
        *told = message.msg_flags;
    return descriptors(&message, fds);
}

HELPER int take_one(int via, int flags)
{
    int fd = -1;
    return take(via, &fd, 1, flags, NULL) == 1 ? fd : -1;
}

HELPER void pair(int *ends)
{
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
}

/* A child that does something with its end of a pair; answers the other end. */
HELPER int child(void (*act)(int via), pid_t *pid)
{
    int ends[2];
    pair(ends);
    if ((*pid = fork()) == 0) {
        close(ends[0]);
        act(ends[1]);
        _exit(0);
    }
    close(ends[1]);
    return ends[0];
}

HELPER void ended(const char *what, pid_t pid)
{
    int status = 0;
    waitpid(pid, &status, 0);
    fact(what, "%d", status);
}

/* Both directions of a connection that is at `fd`, its peer being known by `number`. */
HELPER void works(const char *what, int fd, int number)
{
    char room[64], name[96];
    peer_send(number, "hello");
    snprintf(name, sizeof name, "%s: read", what);
    fact(name, "%s", text(recv(fd, room, sizeof room, 0), room));
    snprintf(name, sizeof name, "%s: sent", what);
    fact(name, "%s", r(send(fd, "there", 5, MSG_NOSIGNAL)));
    snprintf(name, sizeof name, "%s: the peer reads", what);
    fact(name, "%s", peer_wait_read(number, 64));
}

HELPER void ends(const char *what, int number)
{
    char name[96];
    snprintf(name, sizeof name, "%s: the peer's end", what);
    fact(name, "%s", peer_wait_read(number, 64));
}

/* What it receives it answers, until there is no more. */
HELPER void answers(int via)
{
    char room[64];
    int fd;
    while ((fd = take_one(via, 0)) >= 0) {
        long got = recv(fd, room, sizeof room, 0);
        send(fd, room, got, 0);
        close(fd);
    }
}

#endif
