/* What comes and goes while messages do. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcm.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_KCM
#define SOL_KCM 281
#endif

int clone_of(int kcm)
{
    struct kcm_clone clone = {0};
    if (ioctl(kcm, SIOCKCMCLONE, &clone) < 0)
        fail("clone: %s", strerror(errno));
    board->clones++;
    return clone.fd;
}

/* A connection to a peer that has said that it is there. */
static int connect_to_peer(int port, int id)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int tries = 0; tries < 1000 && !board->failed; tries++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        char byte;
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){limit / 2}, sizeof(int));
        /* The byte alone: a message may be behind it. */
        if (connect(fd, (void *)&at, sizeof at) == 0 && send(fd, &id, sizeof id, 0) == sizeof id &&
            recv(fd, &byte, 1, 0) == 1)
            return fd;
        close(fd);
        nap(1000);
    }
    fail("no peer answers");
    return -1;
}

int attach_new(struct mux *mux, int place, int port)
{
    int id = board->next_connection++;
    if (id >= most_connections)
        return fail("too many connections"), -1;
    board->connections[id].peer = none;
    board->connections[id].last = none;
    int fd = connect_to_peer(port, id);
    struct kcm_attach attach = {.fd = fd, .bpf_fd = -1};
    mux->tcp[place] = fd;
    mux->id[place] = id;
    if (ioctl(mux->socket[0], SIOCKCMATTACH, &attach) < 0)
        fail("attach: %s", strerror(errno));
    board->attached++;
    return fd;
}

/* What TCP still has of a stream whose sender stops: all up to its end. */
static char *drain(int fd, size_t *size)
{
    size_t room = 1 << 20;
    char *bytes = malloc(room);
    *size = 0;
    for (;;) {
        ssize_t n = recv(fd, bytes + *size, room - *size, 0);
        if (n <= 0)
            return bytes;
        if ((*size += (size_t)n) == room)
            bytes = realloc(bytes, room *= 2);
    }
}

/* Enters what stood in TCP when the connection was unattached: whole messages, after the rest of one that is lost. */
static void account(struct connection *connection, const char *bytes, size_t size)
{
    uint64_t cut = connection->written - size;
    int64_t number = connection->last;
    while (number >= 0) {
        uint64_t end = records[number].end, length = message_size(0, (uint64_t)number);
        if (end <= cut || end - length < cut) {
            if (end >= cut && !arrived(0, (uint64_t)number)) {
                connection->may_be_lost = number + 1;
                board->cut_off++;
            }
            return;
        }
        got_message(bytes + (end - length - cut), length, 0, NULL, 0);
        number = records[number].previous;
    }
}

void take_away(struct mux *mux, int place)
{
    struct kcm_unattach unattach = {.fd = mux->tcp[place]};
    struct connection *connection = &board->connections[mux->id[place]];
    connection->fate = unattached;
    if (ioctl(mux->socket[0], SIOCKCMUNATTACH, &unattach) < 0)
        fail("unattach: %s", strerror(errno));
    connection->stop = 1;
    size_t size;
    char *bytes = drain(mux->tcp[place], &size);
    if (board->peers[connection->peer].killed)
        connection->fate = dead;
    else
        account(connection, bytes, size);
    free(bytes);
    close(mux->tcp[place]);
}

/* A socket that gets messages and is closed with some, after it has read a few. */
static void short_lived(struct mux *mux, uint64_t random)
{
    int socket = clone_of(mux->socket[random % clones]);
    char *buffer = malloc(limit + 16);
    for (unsigned i = 0; i < random / 8 % 64; i++) {
        struct iovec part = {buffer, limit + 16};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        ssize_t n = recvmsg(socket, &message, MSG_DONTWAIT);
        if (n >= 0)
            got_message(buffer, (size_t)n, 0, NULL, 0);
        else
            nap(100);
    }
    free(buffer);
    close(socket);
}

void churn(struct mux *mux, int port, uint64_t *random)
{
    uint64_t it = *random = hash(*random);
    int place = (int)(it / 64 % connections_of_mux), last = mux->socket[clones - 1];
    int keeps_order = mux->type == SOCK_DGRAM;
    switch (it % 8) {
    case 0:
        take_away(mux, place);
        attach_new(mux, place, port);
        break;
    case 1:
    case 2:
    case 3:
        if (!keeps_order)
            short_lived(mux, it / 64);
        break;
    case 4:
    case 5:
        if (!keeps_order) {
            setsockopt(last, SOL_KCM, KCM_RECV_DISABLE, &(int){1}, sizeof(int));
            nap(500);
            setsockopt(last, SOL_KCM, KCM_RECV_DISABLE, &(int){0}, sizeof(int));
        }
        break;
    default:
        break;
    }
}

/* A killed peer is to show as an error on its connection, and on no other: KCM's EPIPE, or before it TCP's own. */
void look_for_errors(struct mux *mux, int port)
{
    for (int place = 0; place < connections_of_mux; place++) {
        int error = 0;
        socklen_t size = sizeof error;
        struct connection *connection = &board->connections[mux->id[place]];
        int killed = board->peers[connection->peer].killed;
        getsockopt(mux->tcp[place], SOL_SOCKET, SO_ERROR, &error, &size);
        if (error == 0) {
            continue;
        }
        if ((error != EPIPE && error != ECONNRESET) || !(killed | board->peers[connection->peer].killed))
            fail("connection %d: %s, its peer %s", mux->id[place], strerror(error), killed ? "is dead" : "lives");
        connection->fate = dead;
        struct kcm_unattach unattach = {.fd = mux->tcp[place]};
        if (ioctl(mux->socket[0], SIOCKCMUNATTACH, &unattach) < 0)
            fail("unattach: %s", strerror(errno));
        close(mux->tcp[place]);
        attach_new(mux, place, port);
    }
}
