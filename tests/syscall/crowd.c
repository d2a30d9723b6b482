/* Many connections at once, waited for by poll, select and epoll; every descriptor that the process may have; and what
 * becomes of that when the process lowers its limit. */
#include "facts.h"
#include <sys/resource.h>

/* How many connections: so many, or what CROWD says. */
#define USUAL 400
/* Each has as many requests and replies: enough to move, where there is memory for it. */
#define ROUNDS 8
/* Of so many connections one has something to say. */
#define PARTS 10

static char room[64];
static int count, *crowd;
static struct pollfd *entries;

static rlim_t limit(void)
{
    struct rlimit now;
    getrlimit(RLIMIT_NOFILE, &now);
    return now.rlim_cur;
}

static int highest(void)
{
    int found = 0;
    for (int at = 0; at < count; at++)
        found = crowd[at] > found ? crowd[at] : found;
    return found;
}

static bool is_part(int at) { return at % (count / PARTS) == count / PARTS - 1; }

/* How many of those that poll found are those that have something. */
static const char *polled(int milliseconds)
{
    for (int at = 0; at < count; at++)
        entries[at] = (struct pollfd){crowd[at], POLLIN, 0};
    int found = poll(entries, count, milliseconds), right = 0;
    for (int at = 0; at < count; at++)
        right += is_part(at) && entries[at].revents == POLLIN;
    static char answer[64];
    snprintf(answer, sizeof answer, "%s, %d right", r(found), right);
    return answer;
}

static const char *selected(int milliseconds)
{
    int top = highest();
    uint64_t *set = calloc(top / 64 + 1, 8);
    for (int at = 0; at < count; at++)
        set[crowd[at] / 64] |= 1ULL << crowd[at] % 64;
    struct timeval time = {milliseconds / 1000, milliseconds % 1000 * 1000};
    int found = select(top + 1, (fd_set *)set, NULL, NULL, &time), right = 0;
    for (int at = 0; at < count; at++)
        right += is_part(at) && set[crowd[at] / 64] >> crowd[at] % 64 & 1;
    free(set);
    static char answer[64];
    snprintf(answer, sizeof answer, "%s, %d right", r(found), right);
    return answer;
}

static const char *waited(int set, int milliseconds)
{
    struct epoll_event events[4 * PARTS];
    bool seen[PARTS + 1] = {false};
    int right = 0, most = 0, found;
    /* Not all need be in one answer. */
    do {
        found = epoll_wait(set, events, 4 * PARTS, milliseconds);
        for (int at = 0; at < found; at++) {
            int who = events[at].data.u32, part = who / (count / PARTS);
            right += is_part(who) && !seen[part];
            seen[part] = true;
        }
    } while (found > 0 && right < PARTS && most++ < 100);
    static char answer[64];
    snprintf(answer, sizeof answer, "%s, %d right", found > 0 ? "some" : r(found), right);
    return answer;
}

static void together(int set)
{
    fact("quiet", "poll %s; select %s; epoll %s", polled(0), selected(0), waited(set, 0));
    for (int at = 0; at < count; at++)
        if (is_part(at))
            peer_send(crowd[at], "something");
    fact("something", "poll %s; select %s; epoll %s", polled(0), selected(0), waited(set, 0));
    int read_well = 0;
    for (int at = 0; at < count; at++)
        if (is_part(at))
            read_well += recv(crowd[at], room, sizeof room, 0) == 9;
    fact("read", "%d; poll %s", read_well, polled(0));
    int last = crowd[count - 1];
    later(50);
    peer_send(last, "a");
    fact("a sleep in poll", "%s", polled(SOON));
    fact("a sleep in poll", "%s", text(recv(last, room, sizeof room, 0), room));
    later(50);
    peer_send(last, "b");
    fact("a sleep in select", "%s", selected(SOON));
    fact("a sleep in select", "%s", text(recv(last, room, sizeof room, 0), room));
    struct epoll_event event = {0};
    later(50);
    peer_send(last, "c");
    int found = epoll_wait(set, &event, 1, SOON);
    fact("a sleep in epoll", "%d %d, %s", found, event.data.u32 == (uint32_t)count - 1,
         text(recv(last, room, sizeof room, 0), room));
    peer_done();
}

/* As many descriptors as the process may have, all for one connection; then none of them, lowest first and highest first. */
static void every_descriptor(void)
{
    int one = crowd[0], other = crowd[1], highest_copy = -1, lowest_copy = -1;
    for (int turn = 0; turn < 2; turn++) {
        long copies = 0;
        for (int copy; (copy = dup(one)) >= 0; copies++) {
            lowest_copy = copies == 0 ? copy : lowest_copy;
            highest_copy = copy > highest_copy ? copy : highest_copy;
        }
        fact("all used", "%s; %d %d", r(-1), copies > (long)limit() * 9 / 10 - count - 100, highest_copy + 1 == (int)limit());
        fact("all used", "an epoll set: %s", r(epoll_create1(0)));
        later(50);
        peer_send(other, "still");
        fact("all used", "a read that waits: %s", text(recv(other, room, sizeof room, 0), room));
        peer_done();
        peer_send(one, "here");
        fact("all used", "the highest: %s", text(recv(highest_copy, room, sizeof room, 0), room));
        if (turn == 0)
            fact("lowest first", "%s", r(close_range(lowest_copy, ~0U, 0)));
        else
            for (int copy = highest_copy; copy >= lowest_copy; copy--)
                close(copy);
        peer_send(one, "more");
        fact("the last one", "%s", text(recv(one, room, sizeof room, 0), room));
    }
}

/* The library's own descriptors, and most of the program's, are beyond the limit then. */
static void lowered(int set)
{
    struct rlimit now;
    getrlimit(RLIMIT_NOFILE, &now);
    rlim_t before = now.rlim_cur;
    now.rlim_cur = count / 2;
    fact("lowered", "%s", r(setrlimit(RLIMIT_NOFILE, &now)));
    fact("lowered: none is left", "%s", r(dup(1)));
    fact("lowered: more than poll takes", "%s", polled(0));
    for (int at = 0; at < count; at++)
        if (is_part(at))
            peer_send(crowd[at], "something");
    fact("lowered", "select %s; epoll %s", selected(0), waited(set, 0));
    int read_well = 0;
    for (int at = 0; at < count; at++)
        if (is_part(at))
            read_well += recv(crowd[at], room, sizeof room, 0) == 9;
    int last = crowd[count - 1];
    later(50);
    peer_send(last, "c");
    struct epoll_event event = {0};
    fact("lowered: a sleep in epoll", "%d, %d", read_well, epoll_wait(set, &event, 1, SOON));
    fact("lowered: a sleep in epoll", "%s", text(recv(last, room, sizeof room, 0), room));
    later(50);
    peer_send(last, "d");
    fact("lowered: a sleep in select", "%s", selected(SOON));
    fact("lowered: a sleep in select", "%s", text(recv(last, room, sizeof room, 0), room));
    peer_done();
    for (int at = 0; at < count; at += 7)
        exchange(crowd[at], 2);
    now.rlim_cur = before;
    fact("raised", "%s", r(setrlimit(RLIMIT_NOFILE, &now)));
    int later_one = fresh();
    exchange(later_one, ROUNDS);
    send(later_one, "later", 5, 0);
    fact("raised: a new one", "%s", peer_wait_read(later_one, 64));
    close(later_one);
}

void subject(void)
{
    const char *wanted = getenv("CROWD");
    count = wanted ? atoi(wanted) : USUAL;
    crowd = calloc(count, sizeof *crowd);
    entries = calloc(count, sizeof *entries);
    int set = epoll_create1(0);
    for (int at = 0; at < count; at++) {
        /* There is memory for the first ones in any case. */
        crowd[at] = at < PARTS ? moved() : fresh();
        exchange(crowd[at], ROUNDS);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = at};
        epoll_ctl(set, EPOLL_CTL_ADD, crowd[at], &event);
    }
    together(set);
    every_descriptor();
    lowered(set);
    int well = 0;
    for (int at = 0; at < count; at++) {
        exchange(crowd[at], 1);
        well += send(crowd[at], "the end", 7, 0) == 7 && shutdown(crowd[at], SHUT_WR) == 0 && peer_drain(crowd[at]) == 7;
        peer_close(crowd[at]);
        well += recv(crowd[at], room, sizeof room, 0) == 0;
    }
    fact("ended well", "%d", well == 2 * count);
    close_range(crowd[0], ~0U, 0);
}
