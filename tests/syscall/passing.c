/* Connections that go to other processes in messages of Unix sockets (SCM_RIGHTS), and go on there. */
#include "passing.h"
#include <sys/un.h>

static void to_a_child(void)
{
    pid_t pid;
    int via = child(answers, &pid);
    for (int turn = 0; turn < 3; turn++) {
        int fd = moved();
        fact("to a child: sent", "%s", r(pass_one(via, fd)));
        close(fd);
        peer_send(fd, "request");
        fact("to a child: answered", "%s", peer_wait_read(fd, 64));
        ends("to a child", fd);
    }
    close(via);
    ended("to a child: ended", pid);
}

static int given;

static void gives_away(int via)
{
    pass_one(via, given);
}

static void from_one_that_ended(void)
{
    pid_t pid;
    given = moved();
    peer_send(given, "early");
    int via = child(gives_away, &pid);
    close(given);
    ended("from one that ended", pid);
    int fd = take_one(via, 0);
    char room[64];
    fact("from one that ended: what was there", "%s", text(recv(fd, room, sizeof room, 0), room));
    works("from one that ended", fd, given);
    close(fd), close(via);
    ends("from one that ended", given);
}

static void returns(int via)
{
    int fd;
    while ((fd = take_one(via, 0)) >= 0) {
        char room[64];
        long got = recv(fd, room, sizeof room, 0);
        send(fd, room, got, 0);
        pass_one(via, fd);
        close(fd);
    }
}

static void back_and_forth(void)
{
    pid_t pid;
    int number = moved(), fd = number;
    int via = child(returns, &pid);
    for (int turn = 0; turn < 12; turn++) {
        pass_one(via, fd);
        close(fd);
        peer_send(number, "there");
        fact("back and forth: answered there", "%s", peer_wait_read(number, 64));
        fd = take_one(via, 0);
        works("back and forth", fd, number);
    }
    close(via);
    ended("back and forth: ended", pid);
    works("back for good", fd, number);
    close(fd);
    ends("back for good", number);
}

static void dies(int via)
{
    take_one(via, 0);
    write(via, "", 1);
    kill(getpid(), SIGKILL);
}

/* Nor does who received it and was killed. */
static void killed_and_closed(void)
{
    pid_t pid;
    char byte;
    int fd = moved(), via = child(dies, &pid);
    pass_one(via, fd);
    read(via, &byte, 1);
    ended("killed, then closed", pid);
    peer_send(fd, "never read");
    close(fd), close(via);
    ends("killed, then closed", fd);
}

static void flags(void)
{
    int ends_of[2], number = moved();
    pair(ends_of);
    nonblocking(number, true);
    pass_one(ends_of[0], number);
    pass_one(ends_of[0], number);
    int fd = take_one(ends_of[1], 0), other = take_one(ends_of[1], MSG_CMSG_CLOEXEC);
    char room[8];
    fact("flags: close-on-exec", "%d %d", fcntl(fd, F_GETFD), fcntl(other, F_GETFD));
    fact("flags: does not wait", "%d", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    fact("flags: read", "%s", text(recv(fd, room, sizeof room, 0), room));
    nonblocking(fd, false);
    fact("flags: waits", "%d", (fcntl(number, F_GETFL) & O_NONBLOCK) == 0);
    works("itself: original", number, number);
    works("itself: received", fd, number);
    close(number);
    works("itself: original closed", fd, number);
    close(fd);
    works("itself: the other", other, number);
    close(other), close(ends_of[0]), close(ends_of[1]);
    ends("itself", number);
}

static void forked(void)
{
    int ends_of[2], number = moved(), status = 0;
    pair(ends_of);
    pass_one(ends_of[0], number);
    close(number);
    int fd = take_one(ends_of[1], 0);
    pid_t pid = fork();
    if (pid == 0) {
        char room[64];
        long got = recv(fd, room, sizeof room, 0);
        send(fd, room, got, 0);
        _exit(0);
    }
    peer_send(number, "to the child");
    waitpid(pid, &status, 0);
    fact("received, then forked: answered", "%s", peer_wait_read(number, 64));
    works("received, then forked", fd, number);
    if (fork() == 0)
        kill(getpid(), SIGKILL);
    wait(NULL);
    close(fd), close(ends_of[0]), close(ends_of[1]);
    ends("received, then forked", number);
}

static void *receives(void *via)
{
    return (void *)(intptr_t)take_one((int)(intptr_t)via, 0);
}

static void threads(void)
{
    int ends_of[2], number = moved();
    void *fd;
    pair(ends_of);
    pthread_t thread = start(receives, (void *)(intptr_t)ends_of[1]);
    nap(20);
    pass_one(ends_of[0], number);
    close(number);
    pthread_join(thread, &fd);
    works("thread", (int)(intptr_t)fd, number);
    close((int)(intptr_t)fd), close(ends_of[0]), close(ends_of[1]);
    ends("thread", number);
}

static void ready(void)
{
    int ends_of[2], number = moved(), set = epoll_create1(0);
    char room[64];
    pair(ends_of);
    pass_one(ends_of[0], number);
    close(number);
    int fd = take_one(ends_of[1], 0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET | EPOLLRDHUP, .data.fd = fd};
    fact("epoll: added", "%s", r(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event)));
    fact("epoll: nothing", "%s", r(epoll_wait(set, &event, 1, QUIET)));
    for (int turn = 0; turn < 3; turn++) {
        later(20), peer_send(number, "news");
        fact("epoll: one", "%s", r(epoll_wait(set, &event, 1, SOON)));
        fact("epoll: events", "%s", bits(event.events));
        fact("epoll: read", "%s", text(recv(fd, room, sizeof room, 0), room));
    }
    later(20), peer_close(number);
    fact("epoll: the end", "%s", r(epoll_wait(set, &event, 1, SOON)));
    fact("epoll: its events", "%s", bits(event.events));
    close(fd), close(set), close(ends_of[0]), close(ends_of[1]);
}

static void kinds(void)
{
    static const int types[] = {SOCK_DGRAM, SOCK_SEQPACKET};
    for (int index = 0; index < 2; index++) {
        int ends_of[2], number = moved();
        socketpair(AF_UNIX, types[index], 0, ends_of);
        fact("kinds: sent", "%s", r(pass_one(ends_of[0], number)));
        close(number);
        int fd = take_one(ends_of[1], 0);
        works("kinds", fd, number);
        close(fd), close(ends_of[0]), close(ends_of[1]);
        ends("kinds", number);
    }
}

/* Half of what comes is read here, the rest where the connection goes; and likewise what it sends. */
static void in_the_middle(void)
{
    enum { ALL = 600000, HALF = 300001 };
    static char room[ALL];
    int ends_of[2], number = moved();
    long got = 0;
    pair(ends_of);
    later(1), peer_send_pattern(number, ALL);
    while (got < HALF)
        got += recv(number, room + got, HALF - got, 0);
    pattern(room + HALF, 0, 100000);
    send(number, room + HALF, 100000, 0);
    pass_one(ends_of[0], number);
    close(number);
    int fd = take_one(ends_of[1], 0);
    static char more[150000];
    pattern(more, 100000, sizeof more);
    send(fd, more, sizeof more, 0);
    while (got < ALL) {
        long part = recv(fd, room + got, ALL - got, 0);
        if (part <= 0)
            break;
        got += part;
    }
    fact("in the middle: read", "%ld", got);
    fact("in the middle: right", "%zu", matching(room, 0, ALL));
    fact("in the middle: the peer read", "%ld", peer_take(number, 250000));
    close(fd), close(ends_of[0]), close(ends_of[1]);
    ends("in the middle", number);
}

static void half_closed(void)
{
    int ends_of[2], number = moved();
    char room[64];
    pair(ends_of);
    shutdown(number, SHUT_WR);
    pass_one(ends_of[0], number);
    close(number);
    int fd = take_one(ends_of[1], 0);
    ends("shut", number);
    peer_send(number, "more");
    fact("shut: read", "%s", text(recv(fd, room, sizeof room, 0), room));
    fact("shut: sent", "%s", r(send(fd, "x", 1, MSG_NOSIGNAL)));
    peer_close(number);
    fact("shut: end", "%s", text(recv(fd, room, sizeof room, 0), room));
    close(fd), close(ends_of[0]), close(ends_of[1]);
}

/* The peer's end comes while the connection is under way. */
static void ended_under_way(void)
{
    int ends_of[2], number = moved();
    char room[64];
    pair(ends_of);
    peer_send(number, "last words");
    pass_one(ends_of[0], number);
    close(number);
    peer_close(number);
    int fd = take_one(ends_of[1], 0);
    fact("ended under way: read", "%s", text(recv(fd, room, sizeof room, 0), room));
    fact("ended under way: end", "%s", text(recv(fd, room, sizeof room, 0), room));
    close(fd), close(ends_of[0]), close(ends_of[1]);
}

static struct sockaddr_un meeting(void)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    snprintf(where.sun_path + 1, sizeof where.sun_path - 1, "passing-%d", getppid());
    return where;
}

/* A process that was not forked from the one with the connection, and listens for it. */
static void listens(int via)
{
    struct sockaddr_un where = meeting();
    int hears = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(hears, (struct sockaddr *)&where, sizeof where);
    listen(hears, 1);
    write(via, "", 1);
    int fd = accept(hears, NULL, NULL);
    answers(fd);
}

static void to_a_listener(void)
{
    pid_t pid;
    char byte;
    int via = child(listens, &pid);
    struct sockaddr_un where = meeting();
    snprintf(where.sun_path + 1, sizeof where.sun_path - 1, "passing-%d", getpid());
    read(via, &byte, 1);
    int to = socket(AF_UNIX, SOCK_STREAM, 0), number = moved();
    connect(to, (struct sockaddr *)&where, sizeof where);
    fact("to a listener: sent", "%s", r(pass_one(to, number)));
    close(number);
    peer_send(number, "request");
    fact("to a listener: answered", "%s", peer_wait_read(number, 64));
    close(to), close(via);
    ended("to a listener: ended", pid);
    ends("to a listener", number);
}

void subject(void)
{
    to_a_child();
    from_one_that_ended();
    back_and_forth();
    killed_and_closed();
    flags();
    forked();
    threads();
    ready();
    kinds();
    in_the_middle();
    half_closed();
    ended_under_way();
    to_a_listener();
}
