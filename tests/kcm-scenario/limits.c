/* Too little of something. */
#define _GNU_SOURCE
#include "scenario.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

static void set_limit(int which, rlim_t value)
{
    struct rlimit limit;
    getrlimit(which, &limit);
    limit.rlim_cur = value;
    setrlimit(which, &limit);
}

static int highest(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

static void descriptors(void)
{
    struct scene it = scene(SOCK_DGRAM);
    int made[64], count = 0, near, far;
    connect_pair(&near, &far);
    set_limit(RLIMIT_NOFILE, (rlim_t)highest() + 3);
    struct kcm_clone clone = {0};
    while (count < 64 && ioctl(it.kcm, SIOCKCMCLONE, &clone) == 0)
        made[count++] = clone.fd;
    fact("clone", "%s", result(-1));
    int errors = 0;
    for (int i = 0; i < 20; i++) {
        int fd = socket(AF_KCM, SOCK_DGRAM, KCMPROTO_CONNECTED);
        errors += fd < 0 && errno == EMFILE;
        if (fd >= 0)
            close(fd);
    }
    fact("socket", "EMFILE %d of 20", errors);
    for (int i = 0; i < count; i++)
        close(made[i]);
    far_sends(it.far, 12);
    fact("message", "%s", next_message(it.kcm));
    set_limit(RLIMIT_NOFILE, 1024);
    fact("attach", "%s", result(attach(it.kcm, near, -1)));
    far_sends(far, 13);
    fact("message", "%s", next_message(it.kcm));
    int fd = socket(AF_KCM, SOCK_SEQPACKET, KCMPROTO_CONNECTED);
    fact("socket", "%s", fd >= 0 ? "made" : result(fd));
}

static void address_space(void)
{
    set_limit(RLIMIT_AS, 2l << 30);
    fact("socket", "%s", result(socket(AF_KCM, SOCK_DGRAM, KCMPROTO_CONNECTED)));
    set_limit(RLIMIT_AS, RLIM_INFINITY);
    struct scene it = scene(SOCK_DGRAM);
    far_sends(it.far, 12);
    fact("message", "%s", next_message(it.kcm));
}

static void many_muxes(void)
{
    int made[600], count = 0;
    while (count < 300 && (made[count] = socket(AF_KCM, SOCK_DGRAM, KCMPROTO_CONNECTED)) >= 0)
        count++;
    fact("sockets", "%d", count);
    while (count > 0)
        close(made[--count]);
    struct scene it = scene(SOCK_DGRAM);
    far_sends(it.far, 12);
    fact("message", "%s", next_message(it.kcm));
}

static void programs(void)
{
    int kcm = socket(AF_KCM, SOCK_DGRAM, KCMPROTO_CONNECTED), near, far, file = open("/dev/null", O_RDONLY);
    connect_pair(&near, &far);
    fact("no descriptor", "%s", result(attach(kcm, near, 999)));
    fact("a file", "%s", result(attach(kcm, near, file)));
    fact("the TCP socket", "%s", result(attach(kcm, near, near)));
    fact("not attached", "%s", result(ioctl(kcm, SIOCKCMUNATTACH, &(struct kcm_unattach){.fd = near})));
    far_sends(far, 10);
    fact("the right one", "%s", result(attach(kcm, near, -1)));
    fact("message", "%s", next_message(kcm));
}

const struct scenario limit_scenarios[] = {
    {"descriptors", descriptors},
    {"address-space", address_space},
    {"many-muxes", many_muxes},
    {"programs", programs},
    {0},
};
