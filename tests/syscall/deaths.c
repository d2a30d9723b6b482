/* The peer is killed: what sleeping and later calls hear. One peer can die once, so most deaths are a child's. */
#include "facts.h"

static char room[64], big[16 << 20];

/* Has the other end of a connection, answers so many messages, and waits for its death. */
static pid_t child;

static int connection(bool connects, int rounds)
{
    int listens = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    bind(listens, (void *)&name, sizeof name);
    listen(listens, 1);
    getsockname(listens, (void *)&name, &size);
    child = fork();
    bool accepts = (child == 0) == connects;
    int fd = accepts ? -1 : socket(AF_INET, SOCK_STREAM, 0);
    if (accepts)
        fd = accept(listens, NULL, NULL);
    else
        connect(fd, (void *)&name, size);
    for (int round = 0; round < rounds; round++) {
        if (child == 0)
            recv(fd, room, 8, 0), send(fd, "reply", 5, 0);
        else
            send(fd, "request", 7, 0), recv(fd, room, 8, 0);
    }
    if (child == 0) {
        for (;;)
            pause();
    }
    close(listens);
    return fd;
}

static void *kill_later(void *none)
{
    nap(60);
    kill(child, SIGKILL);
    return none;
}

static void dies(const char *when, bool connects, int rounds)
{
    char what[80];
#define SAY(NAME, ...) (snprintf(what, sizeof what, "%s: %s", when, NAME), fact(what, __VA_ARGS__))
    int fd = connection(connects, rounds);
    pthread_t thread = start(kill_later, NULL);
    SAY("a sleeping read", "%s", text(recv(fd, room, sizeof room, 0), room));
    pthread_join(thread, NULL);
    waitpid(child, NULL, 0);
    SAY("events", "%s", bits(looked(fd, 0)));
    const char *first = r(send(fd, "x", 1, MSG_NOSIGNAL));
    nap(20);
    SAY("sends", "%s %s", first, r(send(fd, "x", 1, MSG_NOSIGNAL)));
    close(fd);

    fd = connection(connects, rounds);
    thread = start(kill_later, NULL);
    long sent = send(fd, big, sizeof big, MSG_NOSIGNAL);
    SAY("a sleeping send", "%s", sent < 0 ? error(errno) : sent < (long)sizeof big ? "some" : "all");
    pthread_join(thread, NULL);
    waitpid(child, NULL, 0);
    const char *result = text(recv(fd, room, sizeof room, MSG_DONTWAIT), room);
    SAY("unread bytes", "%s, %s", result, bits(looked(fd, 0)));
    close(fd);

    fd = connection(connects, rounds);
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    thread = start(kill_later, NULL);
    int count = epoll_wait(set, &event, 1, SOON);
    SAY("epoll", "%d %s", count, bits(event.events));
    pthread_join(thread, NULL);
    waitpid(child, NULL, 0);
    /* The kernel wakes twice for a FIN, as for any change of state that can be read: who was quick finds it once more. */
    epoll_wait(set, &event, 1, QUIET);
    SAY("epoll again", "%d", epoll_wait(set, &event, 1, QUIET));
    close(set), close(fd);

    fd = connection(connects, rounds);
    set = epoll_create1(0);
    event.events = EPOLLIN | EPOLLEXCLUSIVE;
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    thread = start(kill_later, NULL);
    count = epoll_wait(set, &event, 1, SOON);
    SAY("exclusive epoll", "%d %s", count, bits(event.events & EPOLLIN));
    pthread_join(thread, NULL);
    waitpid(child, NULL, 0);
    close(set), close(fd);
}

void subject(void)
{
    dies("after one message, connected", true, 1);
    dies("after one message, accepted", false, 1);
    /* It answered an offer, and then sends no more: only what goes to it moves. */
    dies("after two, connected", true, 2);
    dies("after two, accepted", false, 2);
    dies("after many, connected", true, 20);
    dies("after many, accepted", false, 20);
    int fd = moved();
    peer_send(fd, "last words");
    peer_die();
    nap(50);
    fact("the peer: last words", "%s", text(recv(fd, room, sizeof room, 0), room));
    fact("the peer: and then", "%s", text(recv(fd, room, sizeof room, 0), room));
    fact("the peer: events", "%s", bits(looked(fd, 0)));
}
