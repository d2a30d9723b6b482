/* KCM sockets in several processes and programs. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void forked(void)
{
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        struct scene s = scene(types[i]);
        pid_t pid = child();
        if (pid == 0) {
            fact(text("%s child receives", type), "%s", drain(s.k));
            fact(text("%s child sends", type), "%s", result(send(s.k, "child", 5, MSG_EOR)));
            _exit(0);
        }
        send_message(s.tcp.peer, 'c', 3);
        fact(text("%s child", type), "%d", child_ended(pid, 5000));
        fact(text("%s peer", type), "%s", stream(s.tcp.peer));
        send_message(s.tcp.peer, 'p', 3);
        fact(text("%s parent receives after its end", type), "%s", drain(s.k));
    }
}

static void parent_closes(void)
{
    struct scene s = scene(SOCK_DGRAM);
    pid_t pid = child();
    if (pid == 0) {
        close(s.tcp.peer);
        settle();
        settle();
        fact("child receives", "%s", drain(s.k));
        fact("child sends", "%s", result(send(s.k, "child", 5, 0)));
        fact("child unattaches", "%s", result(unattach(s.k, s.tcp.near)));
        _exit(0);
    }
    close(s.k);
    close(s.tcp.near);
    send_message(s.tcp.peer, 'm', 3);
    fact("child", "%d", child_ended(pid, 5000));
    fact("peer", "%s", stream(s.tcp.peer));
}

static void child_attaches(void)
{
    int k = kcm(SOCK_DGRAM), program = parser_be32();
    struct tcp tcp = tcp_pair();
    pid_t pid = child();
    if (pid == 0) {
        int copy = clone_of(k);
        fact("child attaches", "%s", result(attach(k, tcp.near, program)));
        recv_disable(copy, 1);
        _exit(0);
    }
    fact("child", "%d", child_ended(pid, 5000));
    send_message(tcp.peer, 'm', 3);
    fact("parent receives", "%s", drain(k));
    fact("parent attaches", "%s", result(attach(k, tcp.near, program)));
    pid = child();
    if (pid == 0) {
        recv_disable(k, 1);
        fcntl(k, F_SETFL, O_RDWR);
        _exit(0);
    }
    child_ended(pid, 5000);
    fact("disabled by a child", "%d GETFL %#x", option(k, SOL_KCM, KCM_RECV_DISABLE), fcntl(k, F_GETFL));
}

/* Parent and children receive from one socket, each message once. */
static void shared_receiving(void)
{
    enum { children = 3, messages = 60 };
    struct scene s = scene(SOCK_DGRAM);
    int ends[2], seen[messages] = {0}, once = 1;
    if (pipe(ends))
        die("pipe");
    fcntl(s.k, F_SETFL, O_RDWR);
    pid_t pids[children];
    for (int i = 0; i < children; i++) {
        pids[i] = child();
        if (pids[i])
            continue;
        unsigned char buffer[256];
        for (;;) {
            ssize_t got = recv(s.k, buffer, sizeof buffer, 0);
            unsigned char number = buffer[4];
            if (got != 5 || write(ends[1], &number, 1) != 1)
                _exit(1);
        }
    }
    for (int n = 0; n < messages; n++)
        send_message(s.tcp.peer, (char)n, 1);
    settle();
    settle();
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    for (unsigned char number; read(ends[0], &number, 1) == 1;)
        if (number < messages)
            seen[number]++;
    for (int n = 0; n < messages; n++)
        once &= seen[n] == 1;
    fact("each once", "%d", once);
    for (int i = 0; i < children; i++)
        child_ended(pids[i], 0);
}

static void duplicated(void)
{
    struct scene s = scene(SOCK_DGRAM);
    int again = dup(s.k);
    fact("dup2 over a TCP socket", "%d", dup2(s.k, s.tcp.near) == s.tcp.near);
    close(s.k);
    send_message(s.tcp.peer, 'd', 2);
    fact("receive by the dup", "%s", drain(again));
    fact("receive by dup2's", "%s", drain(s.tcp.near));
    fact("send by dup2's", "%s peer %s", result(send(s.tcp.near, "dup", 3, 0)), stream(s.tcp.peer));
    fact("batch by one, flushed by the other", "%s %s peer %s", result(send(again, "1", 1, MSG_BATCH)),
         result(send(s.tcp.near, "2", 1, 0)), stream(s.tcp.peer));
    close(again);
    fact("dup3 onto itself", "%s", result(dup3(s.tcp.near, s.tcp.near, 0)));
    int high = fcntl(s.tcp.near, F_DUPFD_CLOEXEC, 500);
    close(s.tcp.near);
    send_message(s.tcp.peer, 'h', 2);
    fact("the last one", "%s", drain(high));
    close(high);
    settle();
    fact("all closed", "%s", stream(s.tcp.peer));
}

static const char *output_of(int fd, const char *what)
{
    int ends[2], status = 0;
    char said[512] = {0};
    if (pipe(ends))
        die("pipe");
    pid_t pid = child();
    if (pid == 0) {
        char number[16];
        dup2(ends[1], 1);
        snprintf(number, sizeof number, "%d", fd);
        execl(program_path, "conformance", "--executed", what, number, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t n; (n = read(ends[0], said + length, sizeof said - 1 - length)) > 0;)
        length += (size_t)n;
    waitpid(pid, &status, 0);
    close(ends[0]);
    return text("%s exit %d", said, WEXITSTATUS(status));
}

static void executed(void)
{
    struct scene s = scene(SOCK_SEQPACKET);
    fact("type there", "%s", output_of(s.k, "exists"));
    send_message(s.tcp.peer, 'e', 4);
    settle();
    fact("talks", "%s", output_of(s.k, "talk"));
    fact("peer", "%s", stream(s.tcp.peer));
    send_message(s.tcp.peer, 'a', 4);
    fact("parent then", "%s", drain(s.k));
    int copy = clone_of(s.k);
    fcntl(copy, F_SETFD, FD_CLOEXEC);
    fact("close-on-exec", "%s", output_of(copy, "exists"));
    char number[16], out[] = "exists";
    snprintf(number, sizeof number, "%d", s.k);
    char *arguments[] = {"conformance", "--executed", out, number, NULL};
    pid_t pid;
    int status = 0;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    fact("posix_spawn", "%d", posix_spawn(&pid, program_path, &actions, NULL, arguments, environ));
    waitpid(pid, &status, 0);
    fact("posix_spawn, exit", "%d", WEXITSTATUS(status));
}

static int pass(int channel, int fd)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {"x", 1};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *first = CMSG_FIRSTHDR(&header);
    first->cmsg_level = SOL_SOCKET;
    first->cmsg_type = SCM_RIGHTS;
    first->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(first), &fd, sizeof fd);
    return (int)sendmsg(channel, &header, 0);
}

static int passed(int channel)
{
    char control[CMSG_SPACE(sizeof(int))], byte;
    struct iovec part = {&byte, 1};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(channel, &header, 0) == 1 && CMSG_FIRSTHDR(&header))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof fd);
    return fd;
}

static void handed_over(void)
{
    int channel[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel))
        die("socketpair");
    struct scene s = scene(SOCK_DGRAM);
    fact("within a process", "%s", result(pass(channel[0], s.k)));
    int again = passed(channel[1]);
    fact("received", "%d type %d", again > s.k, option(again, SOL_SOCKET, SO_TYPE));
    send_message(s.tcp.peer, 'w', 3);
    fact("works", "%s", drain(again));
    close(again);
    /* To a process that never had it. */
    pid_t pid = child();
    if (pid == 0) {
        close(s.k);
        close(s.tcp.near);
        int mine = passed(channel[1]);
        fact("child received", "%s", mine < 0 ? "nothing" : "fd");
        fact("child receives", "%s", drain(mine));
        fact("child sends", "%s", result(send(mine, "sent", 4, 0)));
        _exit(0);
    }
    pass(channel[0], s.k);
    close(s.k);
    send_message(s.tcp.peer, 'p', 3);
    fact("child", "%d", child_ended(pid, 5000));
    fact("peer", "%s", stream(s.tcp.peer));
    /* The socket travels, and its first holder is gone meanwhile. */
    struct scene t = scene(SOCK_DGRAM);
    pass(channel[0], t.k);
    close(t.k);
    send_message(t.tcp.peer, 'f', 3);
    settle();
    int back = passed(channel[1]);
    fact("in flight", "%s", drain(back));
}

static const struct test_case cases[] = {{"fork", forked},
                                         {"parent_closes", parent_closes},
                                         {"child_attaches", child_attaches},
                                         {"shared", shared_receiving},
                                         {"dup", duplicated},
                                         {"exec", executed},
                                         {"rights", handed_over},
                                         {0}};
const struct group group_process = {"process", cases};
