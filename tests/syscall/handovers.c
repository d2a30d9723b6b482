/* Connections that go to another program or process: exec, posix_spawn, SCM_RIGHTS. */
#include "facts.h"
#include <spawn.h>

extern char **environ;

/* A shell with the connection as its standard input and output. */
static void to_shell(const char *what, int fd, bool spawned)
{
    char *words[] = {"sh", "-c", "read word; echo got $word", NULL};
    char name[64];
    pid_t child;
    if (spawned) {
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, fd, 0);
        posix_spawn_file_actions_adddup2(&actions, fd, 1);
        fact(what, "%s", error(posix_spawn(&child, "/bin/sh", &actions, NULL, words, environ)));
        posix_spawn_file_actions_destroy(&actions);
    } else if ((child = fork()) == 0) {
        dup2(fd, 0), dup2(fd, 1);
        execv("/bin/sh", words);
        _exit(9);
    }
    close(fd);
    peer_send(fd, "word\n");
    int status = 0;
    for (int turn = 0; turn < 1500 && waitpid(child, &status, WNOHANG) == 0; turn++)
        nap(1);
    kill(child, SIGKILL);
    nap(20);
    snprintf(name, sizeof name, "%s: the peer reads", what);
    fact(name, "%s", peer_read(fd, 64));
    snprintf(name, sizeof name, "%s: and then", what);
    fact(name, "%s", peer_read(fd, 64));
}

static void send_by(int pair, int fd)
{
    char control[CMSG_SPACE(sizeof fd)] = "";
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    sendmsg(pair, &message, 0);
}

static int receive_by(int pair)
{
    char control[CMSG_SPACE(sizeof(int))], byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(pair, &message, MSG_DONTWAIT) == 1 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void by_message(const char *what, int fd)
{
    char room[64], name[64];
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    send_by(pair[0], fd);
    int same = receive_by(pair[1]);
    snprintf(name, sizeof name, "%s: received", what);
    fact(name, "%d", same >= 0);
    close(fd);
    peer_send(fd, "hello");
    snprintf(name, sizeof name, "%s: read", what);
    fact(name, "%s", text(recv(same, room, sizeof room, 0), room));
    send(same, "there", 5, 0);
    nap(20);
    snprintf(name, sizeof name, "%s: the peer reads", what);
    fact(name, "%s", peer_read(fd, 64));
    close(same), close(pair[0]), close(pair[1]);
}

void subject(void)
{
    int fd = fresh();
    exchange(fd, 1);
    to_shell("fork and exec, not moved", fd, false);
    fd = fresh();
    exchange(fd, 1);
    to_shell("posix_spawn, not moved", fd, true);
    fd = fresh();
    exchange(fd, 1);
    by_message("passed, not moved", fd);
    to_shell("fork and exec", moved(), false);
    to_shell("posix_spawn", moved(), true);
    by_message("passed", moved());
}
