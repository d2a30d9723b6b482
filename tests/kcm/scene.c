/* See scene.h. */
#define _GNU_SOURCE
#include "scene.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

long milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct pair connection(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(listener, (void *)&at, length) == 0 && listen(listener, 1) == 0);
    CHECK(getsockname(listener, (void *)&at, &length) == 0);
    struct pair pair = {.peer = socket(AF_INET, SOCK_STREAM, 0)};
    CHECK(connect(pair.peer, (void *)&at, length) == 0);
    pair.tcp = accept(listener, NULL, NULL);
    CHECK(pair.tcp >= 0);
    close(listener);
    return pair;
}

struct pair attached(int kcm)
{
    struct pair pair = connection();
    CHECK(attach(kcm, pair.tcp) == 0);
    return pair;
}

void put(int fd, const char *text)
{
    char message[256];
    uint32_t length = strlen(text);
    *(uint32_t *)message = htonl(length);
    memcpy(message + 4, text, length);
    CHECK(write(fd, message, length + 4) == (ssize_t)length + 4);
}

ssize_t get(int fd, char *text)
{
    char message[256] = {0};
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    if (poll(&entry, 1, 1000) != 1)
        return -1;
    ssize_t got = recv(fd, message, sizeof message, MSG_DONTWAIT);
    if (got < 4)
        return -1;
    memcpy(text, message + 4, got - 4);
    text[got - 4] = 0;
    return got - 4;
}

void *receive_one(void *argument)
{
    char buffer[256];
    return (void *)recv(*(int *)argument, buffer, sizeof buffer, 0);
}

void ends(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int descriptors(void)
{
    int count = -1; /* the directory's own */
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 2;
}
