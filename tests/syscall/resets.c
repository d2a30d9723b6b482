/* Resets and closes: what each end hears, in which order, how often. */
#include "facts.h"

static char room[64];

static const char *receive(int fd)
{
    return text(recv(fd, room, sizeof room, MSG_DONTWAIT), room);
}

static void report(const char *when, int fd)
{
    char what[80], line[400] = "";
    nap(20);
    snprintf(what, sizeof what, "%s: poll", when);
    fact(what, "%s", bits(looked(fd, 0)));
    for (int turn = 0; turn < 3; turn++)
        snprintf(line + strlen(line), sizeof line - strlen(line), "%s; ", receive(fd));
    snprintf(what, sizeof what, "%s: reads", when);
    fact(what, "%s", line);
    *line = 0;
    for (int turn = 0; turn < 3; turn++) {
        snprintf(line + strlen(line), sizeof line - strlen(line), "%s; ", r(send(fd, "x", 1, MSG_NOSIGNAL)));
        nap(10);
    }
    snprintf(what, sizeof what, "%s: sends", when);
    fact(what, "%s", line);
    snprintf(what, sizeof what, "%s: afterwards", when);
    const char *pended = error(pending(fd)), *events = bits(looked(fd, 0));
    fact(what, "%s, %s, %s", pended, events, receive(fd));
    close(fd);
}

static void report_sends(const char *when, int fd)
{
    char what[80], line[400] = "";
    nap(20);
    for (int turn = 0; turn < 3; turn++) {
        snprintf(line + strlen(line), sizeof line - strlen(line), "%s; ", r(send(fd, "x", 1, MSG_NOSIGNAL)));
        nap(10);
    }
    snprintf(what, sizeof what, "%s: sends first", when);
    fact(what, "%s", line);
    snprintf(what, sizeof what, "%s: sends first, then", when);
    const char *first = receive(fd), *second = receive(fd);
    fact(what, "%s; %s; %s", first, second, bits(looked(fd, 0)));
    close(fd);
}

static void reset(int fd) { peer_reset(fd); }
static void end(int fd) { peer_close(fd); }
static void send_and_reset(int fd) { peer_send(fd, "unread"); peer_reset(fd); }
static void send_and_end(int fd) { peer_send(fd, "unread"); peer_close(fd); }
static void end_with_unread(int fd) { send(fd, "for nobody", 10, 0); peer_close(fd); }
static void end_half_read(int fd) { send(fd, "for nobody", 10, 0); peer_wait_read(fd, 3); peer_close(fd); }
static void end_both_unread(int fd) { send(fd, "for nobody", 10, 0); peer_send(fd, "unread"); peer_close(fd); }
static void half_close_then_reset(int fd) { peer_shutdown(fd, SHUT_WR); peer_reset(fd); }
static void half_close_then_end(int fd) { peer_shutdown(fd, SHUT_WR); peer_close(fd); }
static void own_half_then_reset(int fd) { shutdown(fd, SHUT_WR); peer_reset(fd); }
static void own_half_then_end(int fd) { shutdown(fd, SHUT_WR); peer_close(fd); }

static void asleep(const char *when, void (*act)(int))
{
    char what[80];
    int fd = moved();
    later(50);
    act(fd);
    snprintf(what, sizeof what, "%s: a sleeping read", when);
    fact(what, "%s", text(recv(fd, room, sizeof room, 0), room));
    peer_done();
    close(fd);
    fd = moved();
    later(50);
    act(fd);
    snprintf(what, sizeof what, "%s: a sleeping send", when);
    static char big[16 << 20];
    long result = send(fd, big, sizeof big, MSG_NOSIGNAL);
    fact(what, "%s, then %s", result < 0 ? error(errno) : result < (long)sizeof big ? "some" : "all",
         send(fd, "x", 1, MSG_NOSIGNAL) < 0 ? "an error" : "more");
    peer_done();
    close(fd);
}

void subject(void)
{
    static const struct { const char *name; void (*act)(int); } acts[] = {
        {"reset", reset}, {"close", end}, {"data and reset", send_and_reset}, {"data and close", send_and_end},
        {"close with unread", end_with_unread}, {"close half read", end_half_read},
        {"close, unread at both", end_both_unread}, {"half-close, reset", half_close_then_reset},
        {"half-close, close", half_close_then_end}, {"own half-close, reset", own_half_then_reset},
        {"own half-close, close", own_half_then_end},
    };
    for (size_t at = 0; at < sizeof acts / sizeof *acts; at++) {
        int fd = moved();
        acts[at].act(fd);
        report(acts[at].name, fd);
        fd = moved();
        acts[at].act(fd);
        report_sends(acts[at].name, fd);
    }
    asleep("reset", reset);
    asleep("close", end);
    int fd = moved();
    struct linger linger = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    send(fd, "seen", 4, 0);
    close(fd);
    nap(20);
    fact("own reset: the peer's events", "%s", bits(peer_poll(fd)));
    fact("own reset: the peer reads", "%s", peer_read(fd, 64));
    fact("own reset: the peer reads on", "%s", peer_read(fd, 64));
    fd = moved();
    peer_send(fd, "unread");
    close(fd);
    nap(20);
    fact("own close with unread: the peer's events", "%s", bits(peer_poll(fd)));
    fact("own close with unread: the peer reads", "%s", peer_read(fd, 64));
    fact("own close with unread: the peer sends", "%s", r(peer_send(fd, "x")));
}
