/* sendfile, splice, tee, vmsplice and copy_file_range with connections at either end. */
#include "facts.h"
#include <sys/sendfile.h>

#define SIZE 100000

static int file, pipes[2];
static char bytes[SIZE];

static void from_file(int fd)
{
    off_t offset = 10;
    fact("sendfile", "%s", r(sendfile(fd, file, &offset, 20)));
    fact("sendfile: offset", "%ld", (long)offset);
    fact("sendfile: position", "%ld", (long)lseek(file, 0, SEEK_CUR));
    peer_wait_read(fd, 64);
    lseek(file, SIZE - 5, SEEK_SET);
    fact("sendfile at the position", "%s", r(sendfile(fd, file, NULL, 20)));
    fact("sendfile at the end", "%s", r(sendfile(fd, file, NULL, 20)));
    peer_wait_read(fd, 64);
    offset = -1;
    fact("sendfile, negative offset", "%s", r(sendfile(fd, file, &offset, 20)));
    fact("sendfile from a socket", "%s", r(sendfile(1, fd, NULL, 20)));
    fact("sendfile to a socket from a pipe", "%s", r(sendfile(fd, pipes[0], NULL, 20)));
}

static void all_of_it(int fd)
{
    off_t offset = 0;
    later(1);
    peer_take(fd, SIZE);
    while (offset < SIZE)
        if (sendfile(fd, file, &offset, SIZE) <= 0)
            break;
    fact("a whole file", "%d", offset == SIZE);
    peer_done();
}

static void splices(int fd)
{
    char room[64];
    write(pipes[1], "through a pipe", 14);
    fact("splice to a socket", "%s", r(splice(pipes[0], NULL, fd, NULL, 100, 0)));
    fact("splice to a socket arrives", "%s", peer_wait_read(fd, 64));
    fact("splice to a socket, empty pipe", "%s", r(splice(pipes[0], NULL, fd, NULL, 100, SPLICE_F_NONBLOCK)));
    peer_send(fd, "from a socket");
    fact("splice from a socket", "%s", r(splice(fd, NULL, pipes[1], NULL, 100, 0)));
    fact("splice from a socket: the pipe", "%s", text(read(pipes[0], room, sizeof room), room));
    nonblocking(fd, true);
    fact("splice from a non-blocking socket, empty", "%s", r(splice(fd, NULL, pipes[1], NULL, 100, 0)));
    nonblocking(fd, false);
    later(30);
    peer_send(fd, "waited for");
    fact("splice waits", "%s", r(splice(fd, NULL, pipes[1], NULL, 100, 0)));
    peer_done();
    fact("splice waits: the pipe", "%s", text(read(pipes[0], room, sizeof room), room));
    peer_send(fd, "abcdef");
    fact("splice of a part", "%s", r(splice(fd, NULL, pipes[1], NULL, 3, 0)));
    fact("read the rest", "%s", text(recv(fd, room, sizeof room, MSG_DONTWAIT), room));
    read(pipes[0], room, sizeof room);
    off_t offset = 0;
    fact("splice with an offset", "%s", r(splice(fd, &offset, pipes[1], NULL, 3, 0)));
    fact("splice between sockets", "%s", r(splice(fd, NULL, fd, NULL, 3, 0)));
    fact("splice of nothing", "%s", r(splice(fd, NULL, pipes[1], NULL, 0, 0)));
    fact("tee from a socket", "%s", r(tee(fd, pipes[1], 3, 0)));
    struct iovec part = {room, 3};
    fact("vmsplice", "%s", r(vmsplice(fd, &part, 1, 0)));
    fact("copy_file_range", "%s", r(copy_file_range(file, NULL, fd, NULL, 3, 0)));
    int twins[2];
    pipe(twins);
    write(pipes[1], "both", 4);
    fact("tee", "%s", r(tee(pipes[0], twins[1], 4, 0)));
    fact("tee, first to the socket", "%s", r(splice(pipes[0], NULL, fd, NULL, 4, 0)));
    fact("tee, second to the socket", "%s", r(splice(twins[0], NULL, fd, NULL, 4, 0)));
    nap(20);
    fact("tee arrives", "%s", peer_wait_read(fd, 64));
    close(twins[0]), close(twins[1]);
}

static void ends(int fd)
{
    char room[64];
    peer_send(fd, "last");
    peer_shutdown(fd, SHUT_WR);
    fact("splice, then the end", "%s", r(splice(fd, NULL, pipes[1], NULL, 100, 0)));
    fact("splice at the end", "%s", r(splice(fd, NULL, pipes[1], NULL, 100, 0)));
    read(pipes[0], room, sizeof room);
    shutdown(fd, SHUT_WR);
    signal(SIGPIPE, SIG_IGN);
    off_t offset = 0;
    fact("sendfile after SHUT_WR", "%s", r(sendfile(fd, file, &offset, 10)));
    write(pipes[1], "x", 1);
    fact("splice after SHUT_WR", "%s", r(splice(pipes[0], NULL, fd, NULL, 10, 0)));
    fact("the pipe has it", "%s", text(read(pipes[0], room, sizeof room), room));
    close(fd);
    fd = moved();
    fill(fd);
    nonblocking(fd, true);
    fact("sendfile, full", "%s", r(sendfile(fd, file, &offset, SIZE)));
    write(pipes[1], "x", 1);
    fact("splice, full", "%s", r(splice(pipes[0], NULL, fd, NULL, 10, 0)));
    peer_reset(fd);
    nap(20);
    fact("sendfile after a reset", "%s", r(sendfile(fd, file, &offset, 10)));
    fact("splice after a reset", "%s", r(splice(fd, NULL, pipes[1], NULL, 10, 0)));
    close(fd);
}

void subject(void)
{
    char name[] = "transfer-XXXXXX";
    file = mkstemp(name);
    unlink(name);
    pattern(bytes, 0, SIZE);
    write(file, bytes, SIZE);
    lseek(file, 0, SEEK_SET);
    pipe(pipes);
    int fd = moved();
    from_file(fd);
    close(fd);
    fd = moved();
    all_of_it(fd);
    splices(fd);
    ends(fd);
}
