/* Connections shared with children: who may read and write, when the last close is, what a death means. */
#include "facts.h"
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/un.h>

extern char **environ;
static char room[64];

static const char *receive(int fd) { return text(recv(fd, room, sizeof room, 0), room); }

static void child_uses(void)
{
    int fd = moved();
    if (fork() == 0) {
        long got = recv(fd, room, sizeof room, 0);
        send(fd, room, got, 0);
        _exit(0);
    }
    peer_send(fd, "to the child");
    wait(NULL);
    fact("the child echoes", "%s", peer_wait_read(fd, 64));
    peer_send(fd, "to the parent");
    fact("the parent reads", "%s", receive(fd));
    fact("after the child's exit: the peer", "%s", bits(peer_poll(fd)));
    if (fork() == 0) {
        close(fd);
        _exit(0);
    }
    wait(NULL);
    send(fd, "on", 2, 0);
    fact("after the child's close", "%s", peer_wait_read(fd, 64));
    if (fork() == 0)
        kill(getpid(), SIGKILL);
    wait(NULL);
    send(fd, "on", 2, 0);
    fact("after the child's death", "%s", peer_wait_read(fd, 64));
    pid_t child = fork();
    if (child == 0) {
        nap(150);
        send(fd, "from the child", 14, 0);
        _exit(0);
    }
    close(fd);
    fact("the parent closed, the child sends", "%s", peer_wait_read(fd, 64));
    waitpid(child, NULL, 0);
    nap(20);
    fact("all gone", "%s", peer_read(fd, 64));
}

/* A child made past the C library's fork, as programs do that want namespaces for it. */
static void cloned_child(void)
{
    int fd = moved(), pair[2];
    if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0) {
        long got = recv(fd, room, sizeof room, 0);
        send(fd, room, got, 0);
        close(fd);
        socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
        write(pair[1], "its own", 7);
        bool again = pair[0] == fd;
        fact("cloned: the number again", "%d, %s", again, text(read(pair[0], room, sizeof room), room));
        _exit(0);
    }
    peer_send(fd, "to the child");
    wait(NULL);
    fact("cloned: the child echoes", "%s", peer_wait_read(fd, 64));
    send(fd, "on", 2, 0);
    fact("cloned: after the child's close", "%s", peer_wait_read(fd, 64));
    pid_t child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        nap(150);
        send(fd, "from the child", 14, 0);
        _exit(0);
    }
    close(fd);
    fact("cloned: the parent closed, the child sends", "%s", peer_wait_read(fd, 64));
    waitpid(child, NULL, 0);
    nap(20);
    fact("cloned: all gone", "%s", peer_read(fd, 64));
}

static void shut_by_child(void)
{
    int fd = moved();
    if (fork() == 0) {
        shutdown(fd, SHUT_WR);
        _exit(0);
    }
    wait(NULL);
    nap(20);
    fact("shut by the child: send", "%s", r(send(fd, "x", 1, MSG_NOSIGNAL)));
    fact("shut by the child: the peer", "%s", peer_read(fd, 8));
    peer_send(fd, "half");
    fact("shut by the child: read", "%s", receive(fd));
    close(fd);
}

static void two_children_read(void)
{
    int fd = moved(), pipes[2];
    pipe(pipes);
    for (int at = 0; at < 2; at++)
        if (fork() == 0) {
            long total = drain(fd);
            write(pipes[1], &total, sizeof total);
            _exit(0);
        }
    long sum = 0, part;
    peer_send_pattern(fd, 300000);
    peer_shutdown(fd, SHUT_WR);
    for (int at = 0; at < 2; at++)
        sum += read(pipes[0], &part, sizeof part) == sizeof part ? part : -1;
    while (wait(NULL) > 0)
        ;
    fact("two children read all", "%ld", sum);
    close(fd), close(pipes[0]), close(pipes[1]);
}

static void flags_are_shared(void)
{
    int fd = moved();
    if (fork() == 0) {
        nonblocking(fd, true);
        _exit(0);
    }
    wait(NULL);
    fact("O_NONBLOCK set by the child", "%s", r(recv(fd, room, 8, 0)));
    close(fd);
}

/* The server accepts and forks, and closes its own: as classic servers do. */
static void served_by_child(void)
{
    int fd = fresh(), done[2];
    pipe(done);
    pid_t child = fork();
    if (child == 0) {
        for (int turn = 0; turn < 20; turn++) {
            long got = recv(fd, room, sizeof room, 0);
            if (got <= 0 || send(fd, room, got, MSG_NOSIGNAL) != got)
                break;
        }
        write(done[1], "x", 1);
        recv(fd, room, 1, 0);
        _exit(0);
    }
    close(fd);
    int right = 0;
    for (int turn = 0; turn < 20; turn++) {
        peer_send(fd, "request");
        right += strcmp(peer_wait_read(fd, 64), "7 request") == 0;
    }
    read(done[0], room, 1);
    fact("served by a child", "%d", right);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    nap(20);
    fact("the serving child killed", "%s", peer_read(fd, 64));
    close(done[0]), close(done[1]);
}

static void vforked(void)
{
    int fd = moved();
    if (vfork() == 0)
        _exit(0);
    wait(NULL);
    send(fd, "still", 5, 0);
    fact("after vfork", "%s", peer_wait_read(fd, 64));
    int kept = fcntl(fd, F_SETFD, FD_CLOEXEC);
    pid_t child;
    char *words[] = {"true", NULL};
    fact("posix_spawn", "%d %d", kept, posix_spawnp(&child, "true", NULL, NULL, words, environ));
    waitpid(child, NULL, 0);
    send(fd, "still", 5, 0);
    fact("after posix_spawn", "%s", peer_wait_read(fd, 64));
    int status = system("true");
    send(fd, "still", 5, 0);
    fact("after system", "%d %s", status, peer_wait_read(fd, 64));
    FILE *pipe = popen("echo piped", "r");
    char *line = fgets(room, sizeof room, pipe);
    fact("popen", "%.5s %d", line, pclose(pipe));
    close(fd);
    nap(20);
    fact("closed after all of them", "%s", peer_read(fd, 8));
}

void subject(void)
{
    child_uses();
    cloned_child();
    shut_by_child();
    two_children_read();
    flags_are_shared();
    served_by_child();
    vforked();
}
