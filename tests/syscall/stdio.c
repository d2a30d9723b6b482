/* C streams on connections, asynchronous I/O, and io_uring's set-up. */
#include "facts.h"
#include <aio.h>
#include <sys/syscall.h>

static void streams(void)
{
    int fd = fresh();
    exchange(fd, 1);
    FILE *stream = fdopen(fd, "r+");
    fact("fdopen", "%d", stream != NULL && fileno(stream) == fd);
    fprintf(stream, "line %d\n", 1);
    fact("unflushed", "%s", peer_read(fd, 64));
    fact("fflush", "%d", fflush(stream));
    fact("flushed", "%s", peer_wait_read(fd, 64));
    setvbuf(stream, NULL, _IOLBF, 0);
    fputs("by line\n", stream);
    fact("line buffered", "%s", peer_wait_read(fd, 64));
    peer_send(fd, "one\ntwo\nthr");
    char line[64];
    fact("fgets", "%.3s", fgets(line, sizeof line, stream));
    fact("fgets again", "%.3s", fgets(line, sizeof line, stream));
    peer_send(fd, "ee\n");
    fact("fgets across messages", "%.5s", fgets(line, sizeof line, stream));
    fact("fseek", "%s", r(fseek(stream, 0, SEEK_SET)));
    fact("dprintf", "%s", r(dprintf(fd, "%s %d", "number", 7)));
    fact("dprintf arrives", "%s", peer_wait_read(fd, 64));
    for (int turn = 0; turn < 12; turn++) {
        fputs("request\n", stream);
        fflush(stream);
        peer_wait_read(fd, 8);
        peer_send(fd, "reply\n");
        fgets(line, sizeof line, stream);
    }
    fact("a dialogue", "%.5s", line);
    peer_shutdown(fd, SHUT_WR);
    fact("end", "%d %d %d", fgets(line, sizeof line, stream) == NULL, feof(stream) != 0, ferror(stream) != 0);
    fact("fclose", "%d", fclose(stream));
    nap(20);
    fact("fclose closes", "%s", peer_read(fd, 64));
}

static void on_moved(void)
{
    int fd = moved();
    peer_send(fd, "read before\nread ");
    char line[64];
    fact("moved: before", "%s", text(read(fd, line, 12), line));
    peer_sleeps(fd, IN_POLL);
    FILE *stream = fdopen(fd, "r+");
    fact("moved: fdopen", "%s", stream ? "works" : error(errno));
    fputs("answer\n", stream);
    fflush(stream);
    peer_send(fd, "by the stream\n");
    fact("moved: fgets", "%.18s", fgets(line, sizeof line, stream));
    fact("moved: flushed", "%s", peer_wait_read(fd, 64));
    fclose(stream);
    fact("moved: fclose", "%s", peer_wait_read(fd, 64));
    fd = moved();
    fact("moved: dprintf", "%s", r(dprintf(fd, "printed")));
    nap(20);
    fact("moved: dprintf arrives", "%s", peer_read(fd, 64));
    close(fd);
}

static const char *finishes(struct aiocb *block)
{
    const struct aiocb *list[] = {block};
    struct timespec limit = {5, 0};
    while (aio_error(block) == EINPROGRESS)
        if (aio_suspend(list, 1, &limit) < 0)
            return error(errno);
    int failed = aio_error(block);
    return failed ? error(failed) : r(aio_return(block));
}

static void asynchronous(void)
{
    char room[16] = "";
    int fd = fresh();
    exchange(fd, 1);
    struct aiocb reading = {.aio_fildes = fd, .aio_buf = room, .aio_nbytes = 8};
    fact("aio_read", "%s", r(aio_read(&reading)));
    peer_send(fd, "hello");
    fact("aio_read finishes", "%s", finishes(&reading));
    struct aiocb writing = {.aio_fildes = fd, .aio_buf = "there", .aio_nbytes = 5};
    fact("aio_write", "%s", r(aio_write(&writing)));
    fact("aio_write finishes", "%s", finishes(&writing));
    nap(20);
    fact("what is unread", "%s", text(recv(fd, room, 8, MSG_DONTWAIT), room));
    fact("what came", "%s", peer_read(fd, 8));
    close(fd);
    fd = moved();
    reading.aio_fildes = writing.aio_fildes = fd;
    peer_sleeps(fd, IN_RECV);
    fact("aio_write, moved", "%s", r(aio_write(&writing)));
    finishes(&writing);
    int reads = aio_read(&reading);
    fact("aio_read, moved", "%s", r(reads));
    peer_send(fd, "x");
    if (reads == 0)
        finishes(&reading);
    close(fd);
}

static void by_number(void)
{
    char room[16] = "";
    int fd = moved();
    fact("syscall(SYS_write)", "%s", r(syscall(SYS_write, fd, "hello", 5)));
    fact("syscall(SYS_sendto)", "%s", r(syscall(SYS_sendto, fd, "there", 5, 0, NULL, 0)));
    fact("both arrive", "%s", peer_wait_read(fd, 64));
    peer_send(fd, "answer");
    fact("syscall(SYS_recvfrom)", "%s", text(syscall(SYS_recvfrom, fd, room, 3, 0, NULL, NULL), room));
    fact("syscall(SYS_read)", "%s", text(syscall(SYS_read, fd, room, 16), room));
    struct pollfd entry = {fd, POLLIN | POLLOUT, 0};
    fact("syscall(SYS_poll)", "%ld", syscall(SYS_poll, &entry, 1, 0));
    fact("its events", "%s", bits(entry.revents));
    fact("syscall(SYS_close)", "%s", r(syscall(SYS_close, fd)));
    nap(20);
    fact("closed", "%s", peer_read(fd, 8));
}

static void rings(void)
{
    char parameters[256] = "";
    long ring = syscall(SYS_io_uring_setup, 4, parameters);
    fact("io_uring", "%s", ring >= 0 || errno == EPERM ? "there" : error(errno));
    if (ring >= 0)
        close(ring);
}

void subject(void)
{
    streams();
    asynchronous();
    by_number();
    on_moved();
    rings();
}
