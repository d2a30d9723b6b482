/* What a limit of descriptors costs: `descriptors LIMIT` sets it as the soft limit and prints figures, one a line, as
 * `NAME VALUE`. A connection to a forked echo server is there all the time, and is used after each step.
 * `descriptors list` has smcss list that connection. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The best of as many turns is printed: other programs run beside this one. */
#define TURNS 10

extern char **environ;
static int connection;

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static long now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

/* So many requests and replies, of which the connection moves if it can. */
static void talk(void)
{
    char message[64] = "a message", answer[64];
    for (int turn = 0; turn < 12; turn++) {
        must(send(connection, message, sizeof message, 0) == sizeof message, "send");
        must(recv(connection, answer, sizeof answer, MSG_WAITALL) == sizeof answer, "recv");
        must(memcmp(message, answer, sizeof answer) == 0, "the answer");
    }
}

static void serve(int listener)
{
    char chunk[64];
    int fd = accept(listener, NULL, NULL);
    for (long got; (got = recv(fd, chunk, sizeof chunk, 0)) > 0;)
        must(send(fd, chunk, got, 0) == got, "the echo");
    _exit(0);
}

static void join(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    must(bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(listener, 1) == 0, "listen");
    getsockname(listener, (struct sockaddr *)&at, &length);
    if (fork() == 0)
        serve(listener);
    close(listener);
    connection = socket(AF_INET, SOCK_STREAM, 0);
    must(connect(connection, (struct sockaddr *)&at, sizeof at) == 0, "connect");
    talk();
}

/* Kilobytes of this process that are in memory, or were at most. */
static long memory(const char *which)
{
    char line[256];
    long found = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, file))
        if (strncmp(line, which, strlen(which)) == 0)
            found = atol(line + strlen(which));
    fclose(file);
    return found;
}

static void run(const char *program)
{
    char *words[] = {(char *)program, NULL};
    int status;
    pid_t child;
    errno = posix_spawnp(&child, program, NULL, NULL, words, environ);
    must(errno == 0 && waitpid(child, &status, 0) == child, program);
    must(status == 0, "a program");
}

static void start_one(void) { run("/proc/self/exe"); }

static void fork_one(void)
{
    int status;
    if (fork() == 0)
        _exit(0);
    wait(&status);
    must(status == 0, "a child");
}

/* As a daemon before it starts a program: not its standard streams. */
static void close_in_range(void) { must(close_range(3, ~0U, 0) == 0, "close_range"); }
static void close_from(void) { closefrom(3); }
static void close_each(void)
{
    for (int fd = 3; fd < sysconf(_SC_OPEN_MAX); fd++)
        close(fd);
}

static void (*closes)(void);
static void close_all(void)
{
    int status;
    if (fork() == 0) {
        closes();
        _exit(0);
    }
    wait(&status);
    must(status == 0, "a child");
}

static void figure(const char *name, void (*step)(void), int turns)
{
    long best = -1;
    for (int turn = 0; turn < turns; turn++) {
        long start = now_us();
        step();
        long took = now_us() - start;
        best = best < 0 || took < best ? took : best;
        talk();
    }
    printf("%s %ld\n", name, best);
    fflush(stdout);
}

/* The program closes every number beyond its connection, whether it is open or not, and moves that to the highest. */
static void keep_one(int limit)
{
    for (int fd = connection + 1; fd < limit; fd++)
        close(fd);
    talk();
    int high = dup2(connection, limit - 1);
    must(high == limit - 1, "dup2");
    close(connection);
    connection = high;
    talk();
}

int main(int count, char **words)
{
    if (count < 2)
        return 0;
    if (strcmp(words[1], "list") == 0) {
        join();
        /* Long enough for either end to give up waiting for the other's word. */
        for (int turn = 0; turn < 20; turn++) {
            talk();
            usleep(10000);
        }
        run("smcss");
        return 0;
    }
    int limit = atoi(words[1]);
    struct rlimit now;
    getrlimit(RLIMIT_NOFILE, &now);
    now.rlim_cur = limit;
    must(setrlimit(RLIMIT_NOFILE, &now) == 0, "the limit");
    join();
    figure("start", start_one, TURNS);
    figure("fork", fork_one, TURNS);
    closes = close_in_range;
    figure("close_range", close_all, TURNS);
    closes = close_from;
    figure("closefrom", close_all, TURNS);
    closes = close_each;
    figure("close-each", close_all, 2);
    keep_one(limit);
    printf("memory %ld\n", memory("VmHWM:"));
    return 0;
}
