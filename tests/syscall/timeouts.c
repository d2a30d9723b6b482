/* SO_RCVTIMEO and SO_SNDTIMEO: when calls give up, and with what. */
#include "facts.h"
#include <limits.h>

static char room[64], big[8 << 20];
static int fd;

static void limit(int option, long microseconds)
{
    struct timeval time = {microseconds / 1000000, microseconds % 1000000};
    setsockopt(fd, SOL_SOCKET, option, &time, sizeof time);
}

static const char *took(long long since, int at_least)
{
    long long time = now_ms() - since;
    return time >= at_least - 1 && time < at_least + 1500 ? "in time" : time < at_least ? "early" : "late";
}

static void receiving(void)
{
    fd = moved();
    limit(SO_RCVTIMEO, 60000);
    long long since = now_ms();
    const char *result = text(recv(fd, room, 8, 0), room);
    fact("recv", "%s, %s", result, took(since, 60));
    since = now_ms();
    result = text(read(fd, room, 8), room);
    fact("read", "%s, %s", result, took(since, 60));
    peer_send(fd, "abc");
    since = now_ms();
    result = text(recv(fd, room, 8, MSG_WAITALL), room);
    fact("WAITALL with a part", "%s, %s", result, took(since, 60));
    since = now_ms();
    result = text(recv(fd, room, 8, MSG_DONTWAIT), room);
    fact("DONTWAIT", "%s, %s", result, took(since, 0));
    limit(SO_RCVTIMEO, 5000000);
    later(20);
    peer_send(fd, "x");
    fact("data in time", "%s", text(recv(fd, room, 8, 0), room));
    peer_done();
    since = now_ms();
    fact("poll has its own", "%s, %s", bits(looked(fd, 0) & POLLIN), took(since, 0));
    limit(SO_RCVTIMEO, 0);
    later(120);
    peer_send(fd, "y");
    fact("none again", "%s", text(recv(fd, room, 8, 0), room));
    peer_done();
    struct timeval bad = {0, 2000000}, negative = {-1, 0}, found;
    socklen_t size = sizeof found;
    fact("bad microseconds", "%s", r(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bad, sizeof bad)));
    fact("short value", "%s", r(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bad, 4)));
    /* The kernel takes a negative time for one that has passed. */
    fact("negative", "%s", r(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &negative, sizeof negative)));
    since = now_ms();
    result = text(recv(fd, room, 8, 0), room);
    fact("negative: recv", "%s, %s", result, took(since, 0));
    limit(SO_RCVTIMEO, 2500000);
    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &found, &size);
    fact("read back", "%ld.%06ld", (long)found.tv_sec, (long)found.tv_usec);
    close(fd);
}

static void sending(void)
{
    fd = moved();
    limit(SO_SNDTIMEO, 80000);
    long long since = now_ms();
    long sent = send(fd, big, sizeof big, 0);
    fact("send: part", "%d, %s", sent > 0 && sent < (long)sizeof big, took(since, 80));
    fill(fd);
    since = now_ms();
    const char *result = r(send(fd, big, sizeof big, 0));
    fact("send: full", "%s, %s", result, took(since, 80));
    since = now_ms();
    struct iovec parts[2] = {{big, 10}, {big, 10}};
    result = r(writev(fd, parts, 2));
    fact("writev: full", "%s, %s", result, took(since, 80));
    later(20);
    peer_take(fd, 0);
    peer_done();
    close(fd);
}

static void set_by_the_listener(void)
{
    /* Accepted sockets inherit what the listener has. */
    if (is_server()) {
        struct timeval time = {0, 70000}, found = {0};
        socklen_t size = sizeof found;
        setsockopt(listener(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
        fd = moved();
        getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &found, &size);
        long long since = now_ms();
        const char *result = text(recv(fd, room, 8, 0), room);
        fact("inherited", "%ld, %s, %s", (long)found.tv_usec, result, took(since, 70));
        time.tv_usec = 0;
        setsockopt(listener(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
        close(fd);
    }
}

static void *change_later(void *none)
{
    nap(50);
    limit(SO_RCVTIMEO, 50000);
    return none;
}

static void changed_meanwhile(void)
{
    fd = moved();
    pthread_t other = start(change_later, NULL);
    later(250);
    peer_send(fd, "late");
    fact("set while a call waits", "%s", text(recv(fd, room, 8, 0), room));
    pthread_join(other, NULL);
    peer_done();
    fact("then in force", "%s", text(recv(fd, room, 8, 0), room));
    close(fd);
}

void subject(void)
{
    receiving();
    sending();
    set_by_the_listener();
    changed_meanwhile();
}
