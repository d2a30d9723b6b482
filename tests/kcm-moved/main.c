/* KCM over a connection that has moved to shared memory: `main CASE` prints facts, which are the same on TCP. */
#define _GNU_SOURCE
#include "serve.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

unsigned char buffer[largest];

int attached(int type, int connects, struct peer *peer)
{
    *peer = peer_of(connects, 200000);
    int kcm = kcm_socket(type);
    CHECK(attach(kcm, peer->tcp) == 0);
    return kcm;
}

int polls(int fd, int events, int milliseconds)
{
    struct pollfd entry = {fd, (short)events, 0};
    CHECK(poll(&entry, 1, milliseconds) >= 0);
    return entry.revents;
}

int polls_until(int fd, int events, int bits)
{
    int seen;
    for (int turn = 0; ((seen = polls(fd, events, 0)) & bits) != bits && turn < patience; turn++)
        usleep(1000);
    return seen;
}

int queued_falls_to(int fd, int bytes)
{
    for (int turn = 0; queued(fd) > bytes && turn < patience; turn++)
        usleep(1000);
    return queued(fd);
}

int queued(int fd)
{
    int bytes;
    CHECK(ioctl(fd, FIONREAD, &bytes) == 0);
    return bytes;
}

int error_of(int fd)
{
    int error;
    socklen_t length = sizeof error;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0);
    return error;
}

void expect(int kcm, long number, size_t size)
{
    CHECK(polls(kcm, POLLIN, patience) == POLLIN);
    ssize_t got = recv(kcm, buffer, sizeof buffer, 0);
    CHECK(got == (ssize_t)size);
    CHECK(is_message(buffer, number, size));
}

void say(int kcm, long number, size_t size)
{
    fill(buffer, number, size);
    CHECK(send(kcm, buffer, size, MSG_EOR) == (ssize_t)size);
}

static const struct {
    const char *name;
    void (*play)(void);
} cases[] = {
    {"sizes-in", sizes_in},
    {"sizes-out", sizes_out},
    {"parts", parts},
    {"floods", floods},
    {"fills", fills},
    {"stalls", stalls},
    {"peer-closes", peer_closes},
    {"peer-shuts", peer_shuts},
    {"peer-is-killed", peer_is_killed},
    {"unattaches", unattaches},
    {"parser-fails", parser_fails},
    {"takes-too-long", takes_too_long},
    {"epolls", epolls},
    {"workers", workers},
    {"generations", generations},
    {"closed", closed},
    {"found", found},
    {"changing", changing},
    {"forking", forking},
    {"refused", refused},
    {"passes", passes},
    {"passes-several", passes_several},
    {"passes-mixed", passes_mixed},
    {"passes-in-the-middle", passes_in_the_middle},
    {"passes-in-vain", passes_in_vain},
    {"executes", executes},
    {"executes-in-turns", executes_in_turns},
    {"executes-mixed", executes_mixed},
    {"executes-in-the-middle", executes_in_the_middle},
    {"executes-in-children", executes_in_children},
    {"executes-in-vain", executes_in_vain},
    {"executes-bare", executes_bare},
    {"raw", raw},
    {"leaves", leaves},
};

int main(int count, char **words)
{
    signal(SIGPIPE, SIG_IGN);
    if (count == 4 && strcmp(words[1], "bare") == 0)
        return hears_bare(atoi(words[2]), atoi(words[3]));
    if (count == 4)
        return serves_anew(atoi(words[2]), words[1], atoi(words[3]));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (count == 2 && strcmp(words[1], cases[i].name) == 0) {
            cases[i].play();
            return 0;
        }
    return 2;
}
