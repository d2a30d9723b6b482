/* Making KCM sockets, and what cannot be done with them. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static void type_and_protocol(void)
{
    static const struct {
        const char *name;
        int type;
    } all[] = {{"DGRAM", SOCK_DGRAM}, {"SEQPACKET", SOCK_SEQPACKET}, {"STREAM", SOCK_STREAM}, {"RAW", SOCK_RAW},
               {"RDM", SOCK_RDM},     {"PACKET", SOCK_PACKET},       {"type 0", 0},           {"type 7", 7},
               {"type 15", 15}};
    for (size_t i = 0; i < LENGTH_OF(all); i++) {
        const char *answers[4];
        for (int protocol = -1; protocol < 3; protocol++)
            answers[protocol + 1] = made(socket(AF_KCM, all[i].type, protocol));
        fact(all[i].name, "protocol -1 %s, 0 %s, 1 %s, 2 %s", answers[0], answers[1], answers[2], answers[3]);
    }
}

static void flags(void)
{
    int plain = socket(AF_KCM, SOCK_DGRAM, 0), both = socket(AF_KCM, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    fact("plain", "GETFL %#x GETFD %d", fcntl(plain, F_GETFL), fcntl(plain, F_GETFD));
    fact("nonblock and cloexec", "GETFL %#x GETFD %d", fcntl(both, F_GETFL), fcntl(both, F_GETFD));
    fact("unknown flag", "%s", made(socket(AF_KCM, SOCK_DGRAM | 0x100, 0)));
    fact("unknown flag and protocol", "%s", made(socket(AF_KCM, SOCK_STREAM | 0x100, 5)));
    struct kcm_clone clone = {.fd = -1};
    fact("clone", "%s GETFL %#x GETFD %d", result(ioctl(both, SIOCKCMCLONE, &clone)), fcntl(clone.fd, F_GETFL),
         fcntl(clone.fd, F_GETFD));
    fact("set nonblock", "%s GETFL %#x", result(fcntl(plain, F_SETFL, O_RDWR | O_NONBLOCK)), fcntl(plain, F_GETFL));
    fact("lowest descriptor", "%d", plain == 3 && both == 4 && clone.fd > 4);
}

static void pair(void)
{
    int ends[2];
    fact("dgram", "%s", result(socketpair(AF_KCM, SOCK_DGRAM, 0, ends)));
    fact("seq", "%s", result(socketpair(AF_KCM, SOCK_SEQPACKET, 0, ends)));
    fact("stream", "%s", result(socketpair(AF_KCM, SOCK_STREAM, 0, ends)));
    fact("protocol 1", "%s", result(socketpair(AF_KCM, SOCK_DGRAM, 1, ends)));
}

static void refused(void)
{
    struct sockaddr_in inet = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct sockaddr unspecified = {.sa_family = AF_UNSPEC};
    struct sockaddr *address = (struct sockaddr *)&inet;
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        int k = kcm(types[i]);
        socklen_t length = sizeof inet;
        fact(text("%s bind", type), "%s", result(bind(k, address, sizeof inet)));
        fact(text("%s bind length 0", type), "%s", result(bind(k, address, 0)));
        fact(text("%s bind null", type), "%s", result(bind(k, NULL, sizeof inet)));
        fact(text("%s connect", type), "%s", result(connect(k, address, sizeof inet)));
        fact(text("%s connect unspecified", type), "%s", result(connect(k, &unspecified, sizeof unspecified)));
        fact(text("%s connect null", type), "%s", result(connect(k, NULL, sizeof inet)));
        fact(text("%s connect length -1", type), "%s", result(connect(k, address, (socklen_t)-1)));
        fact(text("%s listen", type), "%s", result(listen(k, 5)));
        fact(text("%s accept", type), "%s", result(accept(k, address, &length)));
        fact(text("%s accept4 bad flags", type), "%s", result(accept4(k, NULL, NULL, 0x100)));
        fact(text("%s getsockname", type), "%s", result(getsockname(k, address, &length)));
        fact(text("%s getpeername", type), "%s", result(getpeername(k, address, &length)));
        for (int how = 0; how < 4; how++)
            fact(text("%s shutdown %d", type, how), "%s", result(shutdown(k, how)));
    }
}

static void as_a_file(void)
{
    char buffer[8] = {0};
    struct iovec part = {.iov_base = buffer, .iov_len = sizeof buffer};
    struct stat status;
    for (int i = 0; i < 2; i++) {
        const char *type = type_name(types[i]);
        int k = kcm(types[i]);
        fstat(k, &status);
        fact(text("%s mode", type), "%o", status.st_mode);
        fact(text("%s size", type), "%ld blocks %ld", (long)status.st_size, (long)status.st_blocks);
        fact(text("%s lseek", type), "%s", result(lseek(k, 0, SEEK_CUR)));
        fact(text("%s pread", type), "%s", result(pread(k, buffer, 1, 0)));
        fact(text("%s pwrite", type), "%s", result(pwrite(k, buffer, 1, 0)));
        fact(text("%s preadv", type), "%s", result(preadv(k, &part, 1, 0)));
        fact(text("%s pwritev", type), "%s", result(pwritev(k, &part, 1, 0)));
        fact(text("%s preadv2 offset -1", type), "%s", result(preadv2(k, &part, 1, -1, 0)));
        fact(text("%s ftruncate", type), "%s", result(ftruncate(k, 0)));
        fact(text("%s fsync", type), "%s", result(fsync(k)));
        fact(text("%s mmap", type), "%s",
             mmap(NULL, 4096, PROT_READ, MAP_SHARED, k, 0) == MAP_FAILED ? error_name(errno) : "mapped");
        fact(text("%s fallocate", type), "%s", result(fallocate(k, 0, 0, 1)));
        char link[64] = {0};
        ssize_t length = readlink(text("/proc/self/fd/%d", k), link, sizeof link - 1);
        fact(text("%s link", type), "%s", length > 0 ? text("%.7s", link) : result(length));
        fact(text("%s poll", type), "%s", polled(k));
    }
}

static void requests(void)
{
    static const struct {
        const char *name;
        unsigned long request;
    } list[] = {{"FIONREAD", 0x541B},   {"TIOCOUTQ", 0x5411},
                {"SIOCATMARK", 0x8905}, {"SIOCGPGRP", 0x8904},
                {"SIOCGSTAMP", 0x8906}, {"private+3", 0x89E3},
                {"private+15", 0x89EF}, {"device", 0x89F0},
                {"0x1234", 0x1234},     {"SIOCGIFNAME nothing", 0x8910},
                {"0x8911", 0x8911},     {"TCGETS", 0x5401}};
    int k = kcm(SOCK_DGRAM), value;
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        long space[32] = {0};
        int answer = ioctl(k, list[i].request, space);
        fact(list[i].name, "%s", result(answer));
    }
    struct scene s = scene(SOCK_DGRAM);
    send_message(s.tcp.peer, 'a', 4);
    polled_for(s.k, POLLIN, quiet);
    fact("FIONREAD with a message", "%s", result(ioctl(s.k, FIONREAD, &value)));
    value = 1;
    fact("FIONBIO", "%s", result(ioctl(k, FIONBIO, &value)));
    fact("FIONBIO null", "%s", result(ioctl(k, FIONBIO, NULL)));
    fact("FIOCLEX", "%s GETFD %d", result(ioctl(k, FIOCLEX)), fcntl(k, F_GETFD));
    fact("FIOASYNC", "%s", result(ioctl(k, FIOASYNC, &value)));
    fact("private+3 null", "%s", result(ioctl(k, 0x89E3, NULL)));
    fact("private+3 on TCP", "%s", result(ioctl(s.tcp.peer, 0x89E3, &value)));
}

static void owner(void)
{
    int k = kcm(SOCK_DGRAM);
    fact("F_SETOWN", "%s", result(fcntl(k, F_SETOWN, getpid())));
    fact("F_GETOWN", "%d", fcntl(k, F_GETOWN) == getpid());
    fact("F_SETPIPE_SZ", "%s", result(fcntl(k, F_SETPIPE_SZ, 4096)));
    fact("F_DUPFD", "%d", fcntl(k, F_DUPFD, 100));
    fact("F_DUPFD_CLOEXEC", "%d GETFD %d", fcntl(k, F_DUPFD_CLOEXEC, 200), fcntl(200, F_GETFD));
    fact("dup shares flags", "%s %#x", result(fcntl(100, F_SETFL, O_RDWR)), fcntl(k, F_GETFL));
}

static void unprivileged(void)
{
    int program = parser_be32(), loaded;
    struct tcp tcp = tcp_pair();
    if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
        die("setuid");
    int k = socket(AF_KCM, SOCK_DGRAM, 0);
    fact("socket", "%s", made(k));
    fact("attach with a program of root", "%s", result(attach(k, tcp.near, program)));
    fact("clone", "%s", made(clone_of(k)));
    loaded = load(BPF_PROG_TYPE_SOCKET_FILTER, (struct bpf_insn[]){MOV_IMM(0, 4), EXIT()}, 2);
    fact("load", "%s", made(loaded));
}

static const struct test_case cases[] = {{"types", type_and_protocol},
                                         {"flags", flags},
                                         {"pair", pair},
                                         {"refused", refused},
                                         {"file", as_a_file},
                                         {"ioctl", requests},
                                         {"fcntl", owner},
                                         {"unprivileged", unprivileged},
                                         {0}};
const struct group group_socket = {"socket", cases};
