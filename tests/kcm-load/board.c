/* The board, and messages. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct board *board;
struct record *records;
static _Atomic uint64_t *bits[2];
static char pattern[limit + 4096];

/* So many are told of. */
enum { most_failures = 20 };

static uint64_t words(uint64_t messages)
{
    return messages / 64 + 1;
}

static size_t board_size(uint64_t messages)
{
    return sizeof(struct board) + messages * sizeof(struct record) + 2 * words(messages) * 8;
}

void make_board(const char *path, uint64_t messages, int flags)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)board_size(messages)) < 0)
        perror(path), exit(1);
    struct board *made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    made->messages = messages;
    made->flags = flags;
    close(fd);
}

void map_board(const char *path)
{
    int fd = open(path, O_RDWR);
    struct stat stat;
    if (fd < 0 || fstat(fd, &stat) < 0)
        perror(path), exit(1);
    board = mmap(NULL, (size_t)stat.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    records = (struct record *)(board + 1);
    bits[0] = (_Atomic uint64_t *)(records + board->messages);
    bits[1] = bits[0] + words(board->messages);
    for (size_t i = 0; i < sizeof pattern; i += 8) {
        uint64_t word = hash(i);
        memcpy(pattern + i, &word, 8);
    }
}

void fail(const char *format, ...)
{
    va_list args;
    board->failed = 1;
    if (board->failures++ >= most_failures)
        return;
    va_start(args, format);
    fprintf(stderr, "%d: ", (int)getpid());
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

uint64_t hash(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void nap(unsigned microseconds)
{
    struct timespec time = {.tv_nsec = microseconds * 1000l};
    nanosleep(&time, NULL);
}

/* Most are short; one in a few thousand is as long as may be. */
size_t message_size(int direction, uint64_t number)
{
    uint64_t chance = hash(number * 2 + (uint64_t)direction), which = chance % 4096, size = chance >> 12;
    if (which == 0)
        return limit;
    return head_size + size % (which < 4 ? limit - head_size : which < 80 ? 16384 : which < 1000 ? 1500 : 64);
}

size_t make_message(char *to, int direction, uint32_t from, uint32_t sequence, uint64_t number)
{
    size_t size = message_size(direction, number);
    uint32_t head[4] = {htonl((uint32_t)size - 4), from, sequence, (uint32_t)number};
    memcpy(to, head, head_size);
    memcpy(to + head_size, pattern + hash(number) % 4096, size - head_size);
    return size;
}

int arrived(int direction, uint64_t number)
{
    return bits[direction][number / 64] >> number % 64 & 1;
}

void got_message(const char *bytes, size_t size, int direction, uint32_t *last, size_t senders)
{
    uint32_t head[4];
    if (size < head_size)
        return fail("a message of %zu bytes", size);
    memcpy(head, bytes, head_size);
    uint64_t number = head[3];
    if (number >= board->messages || ntohl(head[0]) + 4 != size || message_size(direction, number) != size)
        return fail("torn: %zu bytes, head %u %u %u %u", size, ntohl(head[0]), head[1], head[2], head[3]);
    if (memcmp(bytes + head_size, pattern + hash(number) % 4096, size - head_size) != 0)
        return fail("wrong bytes in message %lu of %zu bytes", number, size);
    uint64_t bit = 1ul << number % 64;
    if (atomic_fetch_or(&bits[direction][number / 64], bit) & bit)
        return fail("message %lu of %zu bytes came twice", number, size);
    atomic_fetch_add(direction ? &board->peers_got : &board->worker_got, 1);
    if (last && head[1] < senders) {
        if (last[head[1]] >= head[2] + 1)
            fail("out of order: of sender %u, %u after %u", head[1], head[2], last[head[1]] - 1);
        last[head[1]] = head[2] + 1;
    }
}
