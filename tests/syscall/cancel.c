/* pthread_cancel of a thread in each blocking call: it ends, its handlers run, and the connection goes on. */
#include "facts.h"
#include <sys/syscall.h>

static int fd;
static char room[64], big[1 << 20];
static volatile int tid, cleaned;

static void clean(void *none)
{
    (void)none;
    cleaned = 1;
}

static void by_read(void) { read(fd, room, 8); }
static void by_recv(void) { recv(fd, room, 8, 0); }
static void by_recvfrom(void) { recvfrom(fd, room, 8, 0, NULL, NULL); }
static void by_readv(void) { struct iovec part = {room, 8}; readv(fd, &part, 1); }
static void by_recvmsg(void)
{
    struct iovec part = {room, 8};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    recvmsg(fd, &message, 0);
}
static void by_poll(void) { struct pollfd entry = {fd, POLLIN, 0}; poll(&entry, 1, SOON); }
static void by_ppoll(void) { struct pollfd entry = {fd, POLLIN, 0}; ppoll(&entry, 1, NULL, NULL); }
static void by_select(void)
{
    fd_set in;
    FD_ZERO(&in); FD_SET(fd, &in);
    select(fd + 1, &in, NULL, NULL, NULL);
}
static void by_pselect(void)
{
    fd_set in;
    FD_ZERO(&in); FD_SET(fd, &in);
    pselect(fd + 1, &in, NULL, NULL, NULL, NULL);
}
static void by_epoll(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    int set = epoll_create1(0);
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    epoll_wait(set, &event, 1, -1);
}
static void by_send(void) { send(fd, big, sizeof big, 0); }
static void by_write(void) { write(fd, big, sizeof big); }
static void by_accept(void)
{
    int own = socket(AF_INET, SOCK_STREAM, 0);
    listen(own, 1);
    accept(own, NULL, NULL);
}
static void by_pause(void) { read(fd, room, 0); pause(); }

struct call {
    const char *name;
    void (*run)(void);
};

static void *runs(void *argument)
{
    struct call *call = argument;
    pthread_cleanup_push(clean, NULL);
    tid = syscall(SYS_gettid);
    call->run();
    pthread_cleanup_pop(0);
    return "returned";
}

static void cancelled(const char *how, struct call *call)
{
    char what[64];
    void *result = NULL;
    tid = cleaned = 0;
    pthread_t thread = start(runs, call);
    while (!tid)
        nap(1);
    until_asleep(tid);
    pthread_cancel(thread);
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_nsec += 300000000;
    limit.tv_sec += limit.tv_nsec / 1000000000;
    limit.tv_nsec %= 1000000000;
    int joined = pthread_timedjoin_np(thread, &result, &limit);
    snprintf(what, sizeof what, "%s%s", how, call->name);
    fact(what, "%s, %s, handlers %d", joined ? error(joined) : "joined",
         result == PTHREAD_CANCELED ? "cancelled" : result ? "returned" : "running", cleaned);
}

void subject(void)
{
    static struct call receiving[] = {
        {"read", by_read}, {"recv", by_recv}, {"recvfrom", by_recvfrom}, {"readv", by_readv}, {"recvmsg", by_recvmsg},
        {"poll", by_poll}, {"ppoll", by_ppoll}, {"select", by_select},
        {"pselect", by_pselect}, {"epoll_wait", by_epoll}, {"accept", by_accept}, {"pause", by_pause},
    };
    static struct call sending[] = {{"send", by_send}, {"write", by_write}};
    fd = moved();
    for (size_t at = 0; at < sizeof receiving / sizeof *receiving; at++) {
        cancelled("", &receiving[at]);
    }
    for (size_t at = 0; at < sizeof sending / sizeof *sending; at++) {
        fd = moved();
        fill(fd);
        cancelled("", &sending[at]);
        peer_send(fd, "still");
        fact("after a cancelled send", "%s", text(recv(fd, room, 8, 0), room));
        close(fd);
    }
    fd = moved();
    cancelled("then ", &receiving[1]);
    peer_send(fd, "hello");
    fact("after a cancelled recv", "%s", text(recv(fd, room, 8, 0), room));
    send(fd, "there", 5, 0);
    fact("and the other way", "%s", peer_wait_read(fd, 8));
    close(fd);
}
