/* Several threads in one set: who wakes, and how many. EPOLLEXCLUSIVE over several sets. */
#include "facts.h"

#define THREADS 4

static int set, woken, events_seen;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *wait_once(void *argument)
{
    struct epoll_event event = {0};
    int which = argument ? *(int *)argument : set;
    int count = epoll_wait(which, &event, 1, 500);
    pthread_mutex_lock(&lock);
    if (count == 1) {
        woken++;
        events_seen |= event.events;
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void control(int in, int action, int fd, unsigned events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(in, action, fd, &event);
}

static void run(const char *name, int fd, unsigned events)
{
    pthread_t threads[THREADS];
    woken = events_seen = 0;
    control(set, EPOLL_CTL_ADD, fd, events);
    for (int at = 0; at < THREADS; at++)
        threads[at] = start(wait_once, NULL);
    nap(50);
    peer_send(fd, "x");
    for (int at = 0; at < THREADS; at++)
        pthread_join(threads[at], NULL);
    char room[8];
    read(fd, room, 1);
    fact(name, "%d woken, %s", woken, bits(events_seen));
    control(set, EPOLL_CTL_DEL, fd, 0);
}

static void several_connections(int fd)
{
    int other = moved();
    pthread_t threads[THREADS];
    woken = 0;
    control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET);
    control(set, EPOLL_CTL_ADD, other, EPOLLIN | EPOLLET);
    for (int at = 0; at < THREADS; at++)
        threads[at] = start(wait_once, NULL);
    nap(50);
    peer_send(fd, "x");
    nap(20);
    peer_send(other, "x");
    for (int at = 0; at < THREADS; at++)
        pthread_join(threads[at], NULL);
    fact("two connections, edges", "%d woken", woken);
    control(set, EPOLL_CTL_DEL, fd, 0);
    char room[8];
    read(fd, room, 1);
    close(other);
}

static void over_sets(const char *name, int fd, unsigned events)
{
    int sets[THREADS];
    pthread_t threads[THREADS];
    woken = events_seen = 0;
    for (int at = 0; at < THREADS; at++) {
        sets[at] = epoll_create1(0);
        control(sets[at], EPOLL_CTL_ADD, fd, events);
        threads[at] = start(wait_once, &sets[at]);
    }
    nap(50);
    peer_send(fd, "x");
    for (int at = 0; at < THREADS; at++)
        pthread_join(threads[at], NULL);
    char room[8];
    read(fd, room, 1);
    if (events & EPOLLEXCLUSIVE)
        fact(name, "at least one woken: %d", woken >= 1);
    else
        fact(name, "%d woken, %s", woken, bits(events_seen));
    for (int at = 0; at < THREADS; at++)
        close(sets[at]);
}

static void *add_later(void *argument)
{
    nap(50);
    control(set, EPOLL_CTL_ADD, *(int *)argument, EPOLLIN);
    return NULL;
}

static void *modify_later(void *argument)
{
    nap(50);
    control(set, EPOLL_CTL_MOD, *(int *)argument, EPOLLIN);
    return NULL;
}

static void changed_under_a_sleeper(int fd)
{
    struct epoll_event event = {0};
    peer_send(fd, "x");
    pthread_t thread = start(add_later, &fd);
    int count = epoll_wait(set, &event, 1, SOON);
    fact("added with data while another sleeps", "%d %s", count, bits(event.events));
    pthread_join(thread, NULL);
    control(set, EPOLL_CTL_MOD, fd, EPOLLPRI);
    thread = start(modify_later, &fd);
    count = epoll_wait(set, &event, 1, SOON);
    fact("modified with data while another sleeps", "%d %s", count, bits(event.events));
    pthread_join(thread, NULL);
    char room[8];
    read(fd, room, 8);
}

static void *close_later(void *argument)
{
    nap(50);
    close(*(int *)argument);
    return NULL;
}

static void closed_under_a_sleeper(void)
{
    struct epoll_event event = {0};
    int fd = moved(), gone = fd;
    control(set, EPOLL_CTL_ADD, fd, EPOLLIN);
    pthread_t thread = start(close_later, &gone);
    fact("closed while another sleeps", "%d", epoll_wait(set, &event, 1, 200));
    pthread_join(thread, NULL);
    int own = epoll_create1(0), victim = own;
    fd = moved();
    control(own, EPOLL_CTL_ADD, fd, EPOLLIN);
    thread = start(close_later, &victim);
    later(150);
    peer_send(fd, "x");
    /* The call keeps the set. */
    fact("the set closed under a sleeper", "%d", epoll_wait(own, &event, 1, SOON));
    pthread_join(thread, NULL);
    close(fd);
}

void subject(void)
{
    set = epoll_create1(0);
    int fd = moved();
    run("edge wakes one", fd, EPOLLIN | EPOLLET);
    run("one-shot wakes one", fd, EPOLLIN | EPOLLONESHOT);
    run("level wakes all", fd, EPOLLIN);
    several_connections(fd);
    over_sets("level over sets", fd, EPOLLIN);
    over_sets("edge over sets", fd, EPOLLIN | EPOLLET);
    over_sets("exclusive over sets", fd, EPOLLIN | EPOLLEXCLUSIVE);
    over_sets("exclusive edge over sets", fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLET);
    changed_under_a_sleeper(fd);
    close(fd);
    closed_under_a_sleeper();
}
