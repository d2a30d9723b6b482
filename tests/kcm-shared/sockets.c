/* See sockets.h. */
#include "sockets.h"

#include <linux/kcm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

void fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s (%m)\n", file, line, what);
    fflush(stdout);
    _exit(1);
}

int kcm_socket(int type)
{
    int kcm = socket(AF_KCM, type, KCMPROTO_CONNECTED);
    CHECK(kcm >= 0);
    return kcm;
}

int clone_of(int kcm)
{
    struct kcm_clone clone = {0};
    CHECK(ioctl(kcm, SIOCKCMCLONE, &clone) == 0);
    return clone.fd;
}

int attach(int kcm, int tcp)
{
    struct kcm_attach attach = {.fd = tcp, .bpf_fd = -1};
    return ioctl(kcm, SIOCKCMATTACH, &attach);
}

int unattach(int kcm, int tcp)
{
    struct kcm_unattach unattach = {.fd = tcp};
    return ioctl(kcm, SIOCKCMUNATTACH, &unattach);
}
