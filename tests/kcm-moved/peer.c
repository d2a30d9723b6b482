/* See peer.h. */
#define _GNU_SOURCE
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { enough_to_move = 12, largest = 4 << 20, half = 100000 };

struct told {
    long order, number, size;
};

static unsigned char like[largest];

void fill(unsigned char *message, long number, size_t size)
{
    uint32_t length = htonl((uint32_t)size - 4);
    memcpy(message, &length, 4);
    for (size_t i = 4; i < size; i++)
        message[i] = (unsigned char)(number * 31 + (long)(i * 7 + (i >> 8)));
}

int is_message(const unsigned char *message, long number, size_t size)
{
    fill(like, number, size);
    return memcmp(message, like, size) == 0;
}

static unsigned char buffer[largest];
static size_t left_from, left_to;

static void send_all(int tcp, const unsigned char *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t sent = send(tcp, bytes + done, size - done, MSG_NOSIGNAL);
        CHECK(sent > 0);
        done += (size_t)sent;
    }
}

static int receive_all(int tcp, unsigned char *into, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = recv(tcp, into + done, size - done, 0);
        if (got <= 0)
            return 0;
        done += (size_t)got;
    }
    return 1;
}

static long flood(int tcp, long number, size_t size)
{
    long count = 0;
    for (;; count++) {
        fill(buffer, number + count, size);
        for (size_t done = 0; done < size;) {
            /* What is on its way over TCP makes room a moment later. */
            struct pollfd entry = {tcp, POLLOUT, 0};
            ssize_t sent = send(tcp, buffer + done, size - done, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent < 0 && errno == EAGAIN && poll(&entry, 1, 100) == 1)
                continue;
            if (sent < 0) {
                CHECK(errno == EAGAIN);
                left_from = done, left_to = size;
                return count;
            }
            done += (size_t)sent;
        }
    }
}

/* One whose number can be told from it. */
static void fill_numbered(unsigned char *message, long number, size_t size)
{
    fill(message, number, size);
    memcpy(message + 4, &number, sizeof number);
}

static long echo(int tcp, long count, size_t size)
{
    static unsigned char seen[1 << 16];
    long sent = 0, received = 0, right = 0;
    memset(seen, 0, sizeof seen);
    CHECK(count <= (long)sizeof seen);
    while (received < count) {
        for (; sent < count && sent < received + 16; sent++) {
            fill_numbered(buffer, sent, size);
            send_all(tcp, buffer, size);
        }
        if (!receive_all(tcp, buffer, size))
            return -1;
        received++;
        long number;
        memcpy(&number, buffer + 4, sizeof number);
        if (number < 0 || number >= count || seen[number]++)
            continue;
        fill_numbered(like, number, size);
        right += memcmp(buffer, like, size) == 0;
    }
    return right;
}

static long ended(int tcp)
{
    unsigned char byte;
    ssize_t got = recv(tcp, &byte, 1, 0);
    return got < 0 ? errno : got;
}

long give_away(int tcp)
{
    char *words[] = {"true", NULL}, *nothing[] = {NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    CHECK(posix_spawn_file_actions_init(&actions) == 0 && posix_spawn_file_actions_adddup2(&actions, tcp, 0) == 0);
    int error = posix_spawn(&child, "/bin/true", &actions, NULL, words, nothing);
    CHECK(posix_spawn_file_actions_destroy(&actions) == 0);
    CHECK(error != 0 || waitpid(child, NULL, 0) == child);
    return error;
}

static long obey(int *tcp, struct told told)
{
    size_t size = (size_t)told.size;
    int value = 0;
    switch (told.order) {
    case SAY:
        fill(buffer, told.number, size);
        send_all(*tcp, buffer, size);
        return 0;
    case HEAR:
        return receive_all(*tcp, buffer, size) && is_message(buffer, told.number, size);
    case MUTTER:
        fill(buffer, told.number, half);
        send_all(*tcp, buffer + (size >> 32), (size & 0xffffffff) - (size >> 32));
        return 0;
    case FLOOD:
        return flood(*tcp, told.number, size);
    case FINISH:
        send_all(*tcp, buffer + left_from, left_to - left_from);
        return 0;
    case ECHO:
        return echo(*tcp, told.number, size);
    case QUEUED:
        CHECK(ioctl(*tcp, FIONREAD, &value) == 0);
        return value;
    case UNSENT:
        CHECK(ioctl(*tcp, TIOCOUTQ, &value) == 0);
        return value;
    case SHUT:
        return shutdown(*tcp, (int)told.number);
    case CLOSE:
        return close(*tcp);
    case ENDED:
        return ended(*tcp);
    case URGE:
        return send(*tcp, "!", 1, MSG_OOB | MSG_NOSIGNAL);
    case GIVE:
        return give_away(*tcp);
    }
    return -1;
}

static void greet(int tcp, int begins, int exchanges)
{
    unsigned char word[8] = "hello";
    for (int i = 0; i < exchanges; i++) {
        if (begins)
            send_all(tcp, word, sizeof word);
        CHECK(receive_all(tcp, word, sizeof word));
        if (!begins)
            send_all(tcp, word, sizeof word);
    }
}

static int listening(struct sockaddr_in *at)
{
    socklen_t length = sizeof *at;
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(listener, (void *)at, length) == 0 && listen(listener, 1) == 0);
    CHECK(getsockname(listener, (void *)at, &length) == 0);
    return listener;
}

static int connected(const struct sockaddr_in *at)
{
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(tcp, (const void *)at, sizeof *at) == 0);
    return tcp;
}

static void be_peer(int listener, const struct sockaddr_in *at, int connects, int exchanges, int orders)
{
    struct told told;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int tcp = connects ? connected(at) : accept(listener, NULL, NULL);
    CHECK(tcp >= 0);
    close(listener);
    greet(tcp, connects, exchanges);
    while (recv(orders, &told, sizeof told, 0) == sizeof told) {
        long result = obey(&tcp, told);
        CHECK(send(orders, &result, sizeof result, 0) == sizeof result);
    }
    _exit(0);
}

static struct peer make_peer(int connects, int receive_buffer, int exchanges)
{
    struct sockaddr_in at;
    int orders[2], listener = listening(&at);
    struct peer peer;
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, orders) == 0);
    if (receive_buffer > 0)
        CHECK(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer) == 0);
    peer.pid = fork();
    CHECK(peer.pid >= 0);
    if (peer.pid == 0) {
        close(orders[0]);
        be_peer(listener, &at, !connects, exchanges, orders[1]);
    }
    close(orders[1]);
    peer.orders = orders[0];
    peer.tcp = connects ? connected(&at) : accept(listener, NULL, NULL);
    CHECK(peer.tcp >= 0);
    if (receive_buffer > 0)
        CHECK(setsockopt(peer.tcp, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer) == 0);
    close(listener);
    greet(peer.tcp, connects, exchanges);
    return peer;
}

struct peer peer_of(int connects, int receive_buffer)
{
    return make_peer(connects, receive_buffer, enough_to_move);
}

struct peer new_peer(int connects)
{
    return make_peer(connects, 0, 0);
}

void tell(struct peer *peer, enum order order, long number, long size)
{
    struct told told = {order, number, size};
    CHECK(send(peer->orders, &told, sizeof told, 0) == sizeof told);
}

long answer(struct peer *peer)
{
    long result;
    CHECK(recv(peer->orders, &result, sizeof result, 0) == sizeof result);
    return result;
}

long ask(struct peer *peer, enum order order, long number, long size)
{
    tell(peer, order, number, size);
    return answer(peer);
}

void kill_peer(struct peer *peer)
{
    CHECK(kill(peer->pid, SIGKILL) == 0 && waitpid(peer->pid, NULL, 0) == peer->pid);
}
