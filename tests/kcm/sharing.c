/* Muxes in several processes. */
#define _GNU_SOURCE
#include "scene.h"

#include <spawn.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* What another program takes grows with the number of sockets that it is given, not with its square. */
void many_given_on(void)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int kcm = kcm_socket(SOCK_DGRAM);
    for (int n = 0; n < 200; n++)
        clone_of(kcm);
    for (int n = 0; n < 100; n++)
        attached(kcm);
    char *const arguments[] = {"true", NULL};
    pid_t child;
    int status;
    long start = milliseconds();
    CHECK(posix_spawnp(&child, "true", NULL, NULL, arguments, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(milliseconds() - start < 1000);
}
