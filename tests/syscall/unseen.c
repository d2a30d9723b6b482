/* Waiting by system calls that pass the C library by, as the event loops of some languages make them. */
#include "facts.h"
#include <sys/syscall.h>

static char room[64];

/* A system call without the C library, where this file knows how. */
static long raw(long number, long a, long b, long c, long d)
{
#ifdef __x86_64__
    register long fourth __asm__("r10") = d;
    long answer;
    __asm__ volatile("syscall" : "=a"(answer) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
    return answer;
#else
    return syscall(number, a, b, c, d);
#endif
}

static const char *waited(int set, int milliseconds)
{
    struct epoll_event event = {.events = 0};
#ifdef __x86_64__
    long count = raw(SYS_epoll_wait, set, (long)&event, 1, milliseconds);
#else
    long count = epoll_wait(set, &event, 1, milliseconds);
#endif
    return count == 1 ? bits(event.events) : r(count);
}

void subject(void)
{
    int set = raw(SYS_epoll_create1, 0, 0, 0, 0);
    int fd = fresh();
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    fact("add", "%s", r(raw(SYS_epoll_ctl, set, EPOLL_CTL_ADD, fd, (long)&event)));
    exchange(fd, 20);
    waited(set, 0);
    peer_send(fd, "news");
    fact("edge", "%s", waited(set, SOON));
    fact("read", "%s", text(recv(fd, room, sizeof room, 0), room));
    event.events = EPOLLIN | EPOLLONESHOT;
    fact("modify", "%s", r(raw(SYS_epoll_ctl, set, EPOLL_CTL_MOD, fd, (long)&event)));
    peer_send(fd, "more");
    fact("once", "%s", waited(set, SOON));
    fact("read more", "%s", text(recv(fd, room, sizeof room, 0), room));
    event.events = EPOLLIN | EPOLLRDHUP;
    raw(SYS_epoll_ctl, set, EPOLL_CTL_MOD, fd, (long)&event);
    peer_close(fd);
    fact("end", "%s", waited(set, SOON));
    close(fd), close(set);
}
