/* The far ends of the TCP connections: some processes, each with two threads for a connection. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { buffer_size = 4 * limit, senders = 1 << 16 };

struct end {
    int fd, id;
};

static int put(int fd, const char *bytes, size_t size, uint64_t *random)
{
    while (size > 0) {
        *random = hash(*random);
        size_t piece = *random % 8 == 0 ? 1 + (*random >> 8) % size : size;
        ssize_t n = send(fd, bytes, piece, MSG_NOSIGNAL);
        if (n < 0)
            return -1;
        bytes += n;
        size -= (size_t)n;
    }
    return 0;
}

static void *write_to(void *argument)
{
    struct end *end = argument;
    struct connection *connection = &board->connections[end->id];
    char *buffer = malloc(buffer_size);
    uint64_t written = 0, random = (uint64_t)end->id;
    uint32_t sequence = 0;
    while (!connection->stop && !board->failed) {
        size_t size = 0, most = hash(random) % 3 == 0 ? 1 : 65536;
        while (size < most && size + limit <= buffer_size) {
            uint64_t number = board->to_worker;
            if (number >= board->messages || (number = board->to_worker++) >= board->messages)
                break;
            records[number] = (struct record){.previous = connection->last, .connection = end->id + 1};
            size += make_message(buffer + size, 0, (uint32_t)end->id, sequence++, number);
            records[number].end = written + size;
            connection->last = (int64_t)number;
        }
        if (size == 0) {
            nap(1000);
            continue;
        }
        if (put(end->fd, buffer, size, &random) < 0) {
            if (connection->fate == lives && !board->failed)
                fail("connection %d, writing: %s", end->id, strerror(errno));
            break;
        }
        written += size;
    }
    connection->written = written;
    shutdown(end->fd, SHUT_WR);
    free(buffer);
    return NULL;
}

static void *read_from(void *argument)
{
    struct end *end = argument;
    struct connection *connection = &board->connections[end->id];
    char *buffer = malloc(buffer_size);
    uint32_t *last = calloc(senders, sizeof *last);
    size_t size = 0;
    for (;;) {
        ssize_t n = recv(end->fd, buffer + size, buffer_size - size, 0);
        if (n <= 0) {
            if (n < 0 && connection->fate == lives)
                fail("connection %d, reading: %s", end->id, strerror(errno));
            break;
        }
        size += (size_t)n;
        size_t at = 0;
        while (size - at >= 4) {
            uint32_t length;
            memcpy(&length, buffer + at, 4);
            length = ntohl(length) + 4;
            if (length > limit) {
                fail("connection %d: a message of %u bytes", end->id, length);
                return NULL;
            }
            if (length > size - at)
                break;
            got_message(buffer + at, length, 1, last, senders);
            at += length;
        }
        memmove(buffer, buffer + at, size -= at);
    }
    if (size > 0 && connection->fate == lives)
        fail("connection %d ends in the middle of a message", end->id);
    free(last);
    free(buffer);
    return NULL;
}

static void *serve(void *argument)
{
    struct end *end = argument;
    pthread_t reader;
    pthread_create(&reader, NULL, read_from, end);
    write_to(end);
    pthread_join(reader, NULL);
    close(end->fd);
    free(end);
    return NULL;
}

static void peer(int listener, int number)
{
    for (;;) {
        struct end *end = malloc(sizeof *end);
        end->fd = accept(listener, NULL, NULL);
        if (end->fd < 0 || recv(end->fd, &end->id, sizeof end->id, MSG_WAITALL) != sizeof end->id) {
            close(end->fd);
            free(end);
            continue;
        }
        board->connections[end->id].peer = number;
        pthread_t thread;
        if (send(end->fd, "", 1, MSG_NOSIGNAL) == 1 && pthread_create(&thread, NULL, serve, end) == 0)
            pthread_detach(thread);
    }
}

static int start_peer(int listener)
{
    int number = board->next_peer++;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        peer(listener, number);
    }
    board->peers[number].pid = pid;
    return number;
}

int run_peers(int port)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, running[peers_at_a_time];
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (void *)&at, sizeof at) < 0 || listen(listener, 256) < 0)
        return perror("listen"), 1;
    for (int i = 0; i < peers_at_a_time; i++)
        running[i] = start_peer(listener);
    uint64_t random = 7;
    while (!board->peers_end && !board->failed) {
        nap(20000);
        if (!(board->flags & with_kills) || board->to_worker >= board->messages || board->next_peer >= most_peers)
            continue;
        random = hash(random);
        if (random % 8 != 0)
            continue;
        int *victim = &running[random / 8 % peers_at_a_time];
        board->peers[*victim].killed = 1;
        kill(board->peers[*victim].pid, SIGKILL);
        waitpid(board->peers[*victim].pid, NULL, 0);
        board->kills++;
        *victim = start_peer(listener);
    }
    for (int i = 0; i < peers_at_a_time; i++)
        kill(board->peers[running[i]].pid, SIGKILL);
    return 0;
}
