/* Several threads in one connection; close, shutdown and dup2 by another thread than the one that sleeps. */
#include "facts.h"
#include <sys/syscall.h>

static int fd;
static volatile int tid;
static char room[64];

struct reading {
    long result;
    int error;
    char bytes[64];
};

static void *read_once(void *argument)
{
    struct reading *reading = argument;
    tid = syscall(SYS_gettid);
    reading->result = recv(fd, reading->bytes, sizeof reading->bytes, 0);
    reading->error = errno;
    return NULL;
}

static void sleep_in_read(pthread_t *thread, struct reading *reading)
{
    memset(reading, 0, sizeof *reading);
    tid = 0;
    *thread = start(read_once, reading);
    while (!tid)
        nap(1);
    until_asleep(tid);
}

static const char *heard(const struct reading *reading)
{
    errno = reading->error;
    return text(reading->result, reading->bytes);
}

static void several_readers(void)
{
    struct reading readings[4];
    pthread_t threads[4];
    fd = moved();
    for (int at = 0; at < 4; at++)
        sleep_in_read(&threads[at], &readings[at]);
    long bytes = 0;
    int returned = 0;
    for (int at = 0; at < 4; at++) {
        peer_send(fd, "abc");
        nap(20);
    }
    peer_shutdown(fd, SHUT_WR);
    for (int at = 0; at < 4; at++) {
        pthread_join(threads[at], NULL);
        bytes += readings[at].result;
        returned += readings[at].result >= 0;
    }
    fact("four readers, four messages, then the end", "%ld bytes, %d returned", bytes, returned);
    close(fd);
}

static void end_wakes_all(void)
{
    struct reading readings[3];
    pthread_t threads[3];
    fd = moved();
    for (int at = 0; at < 3; at++)
        sleep_in_read(&threads[at], &readings[at]);
    peer_shutdown(fd, SHUT_WR);
    for (int at = 0; at < 3; at++)
        pthread_join(threads[at], NULL);
    fact("the end wakes all readers", "%s; %s; %s", heard(&readings[0]), heard(&readings[1]), heard(&readings[2]));
    close(fd);
}

static void closed_by_another(void)
{
    struct reading reading;
    pthread_t thread;
    fd = moved();
    sleep_in_read(&thread, &reading);
    close(fd);
    nap(30);
    peer_send(fd, "late");
    pthread_join(thread, NULL);
    fact("closed under a reader", "%s", heard(&reading));
    nap(20);
    /* Now nobody holds it. */
    fact("closed under a reader: the peer", "%s", bits(peer_poll(fd)));

    fd = moved();
    sleep_in_read(&thread, &reading);
    shutdown(fd, SHUT_RDWR);
    pthread_join(thread, NULL);
    fact("shut down under a reader", "%s", heard(&reading));
    close(fd);

    fd = moved();
    sleep_in_read(&thread, &reading);
    shutdown(fd, SHUT_WR);
    fact("shut for writing under a reader", "%s", peer_wait_read(fd, 8));
    peer_send(fd, "on");
    pthread_join(thread, NULL);
    fact("shut for writing: the reader", "%s", heard(&reading));
    close(fd);

    fd = moved();
    int pipes[2], twin = dup(fd), number = fd;
    pipe(pipes);
    sleep_in_read(&thread, &reading);
    dup2(pipes[0], number);
    peer_send(fd, "old");
    pthread_join(thread, NULL);
    fact("overlaid under a reader", "%s", heard(&reading));
    write(pipes[1], "pipe", 4);
    fact("what the number is now", "%s", text(read(number, room, 8), room));
    close(twin), close(number), close(pipes[0]), close(pipes[1]);
}

#define WRITERS 4
#define TIMES 500

static void *write_letters(void *argument)
{
    char letters[97];
    memset(letters, *(char *)argument, sizeof letters);
    for (int turn = 0; turn < TIMES; turn++)
        if (write(fd, letters, sizeof letters) != sizeof letters)
            return "short";
    return NULL;
}

static void several_writers(void)
{
    static char names[WRITERS] = "abcd", all[WRITERS * TIMES * 97];
    pthread_t threads[WRITERS];
    fd = moved();
    later(1);
    peer_echo(fd, sizeof all);
    for (int at = 0; at < WRITERS; at++)
        threads[at] = start(write_letters, &names[at]);
    long got = recv(fd, all, sizeof all, MSG_WAITALL);
    int counts[256] = {0}, broken = 0, failed = 0;
    for (long at = 0; at < got; at++)
        counts[(unsigned char)all[at]]++;
    /* Each write stays in one piece. */
    for (long at = 0; at + 97 <= got; at += 97)
        for (int next = 1; next < 97; next++)
            broken += all[at + next] != all[at];
    for (int at = 0; at < WRITERS; at++) {
        void *result;
        pthread_join(threads[at], &result);
        failed += result != NULL;
    }
    fact("four writers", "%d %d %d %d, %d broken, %d failed", counts['a'], counts['b'], counts['c'], counts['d'], broken, failed);
    peer_done();
    close(fd);
}

static void *poll_once(void *argument)
{
    tid = syscall(SYS_gettid);
    struct pollfd entry = {fd, POLLIN | POLLRDHUP, 0};
    poll(&entry, 1, SOON);
    *(unsigned *)argument = (unsigned short)entry.revents;
    return NULL;
}

static void polled_by_two(void)
{
    unsigned events[2];
    pthread_t threads[2];
    struct reading reading;
    fd = moved();
    for (int at = 0; at < 2; at++)
        threads[at] = start(poll_once, &events[at]);
    nap(50);
    peer_send(fd, "x");
    pthread_join(threads[0], NULL), pthread_join(threads[1], NULL);
    fact("two polls", "%s, %s", bits(events[0]), bits(events[1]));
    read(fd, room, 8);
    threads[0] = start(poll_once, &events[0]);
    nap(50);
    shutdown(fd, SHUT_RD);
    pthread_join(threads[0], NULL);
    fact("own SHUT_RD wakes poll", "%s", bits(events[0]));
    close(fd);
    fd = moved();
    sleep_in_read(&threads[0], &reading);
    threads[1] = start(poll_once, &events[1]);
    nap(50);
    peer_close(fd);
    pthread_join(threads[0], NULL), pthread_join(threads[1], NULL);
    fact("close wakes reader and poll", "%s, %s", heard(&reading), bits(events[1]));
    close(fd);
}

void subject(void)
{
    several_readers();
    end_wakes_all();
    closed_by_another();
    several_writers();
    polled_by_two();
}
