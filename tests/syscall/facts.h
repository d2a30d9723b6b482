/* What every subject needs. A subject is a program that runs twice: as the one that acts and states facts, and as its
 * peer, which holds the other ends of the connections and does what it is told over a Unix socket. Either may be the
 * server. Nothing here knows of the library. */
#ifndef FACTS_H
#define FACTS_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Long enough for whatever must happen; never waited for when it does. */
#define SOON 5000
/* Milliseconds in which nothing must happen. */
#define QUIET 40

/* The subject: states its facts. */
void subject(void);

/* States a fact, one line `SUBJECT.NAME: VALUE`. Values hold no times, addresses or numbers that differ between runs. */
void fact(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What a call answered: a number, or the name of its error. The text is good for a dozen more calls. */
const char *r(long result);
/* The name of an error. */
const char *error(int number);
/* poll's, and epoll's, bits by name. */
const char *bits(unsigned events);
/* What a read answered, with the bytes: `5 hello`, `end` or the name of an error. */
const char *text(long result, const void *bytes);

/* A new connection, still on TCP. */
int fresh(void);
/* A new connection after so many requests and replies that it has moved if it can. The two ends then say, on standard
 * error, which sockets those are, and the harness looks for the library's word that they moved. */
int moved(void);
/* Sends requests and replies, by the end of which a connection has moved if it can. */
void warm(int fd);
/* The same, but both ends would stay on TCP: nobody asks whether they moved. */
void exchange(int fd, int rounds);

/* Bytes of a pattern, from an offset of it. */
void pattern(void *into, size_t offset, size_t count);
/* How many of these bytes, from the first on, are the pattern's. */
size_t matching(const void *bytes, size_t offset, size_t count);
/* Sends until a non-blocking send would wait; answers how many bytes. Leaves the socket as it was. */
long fill(int fd);
/* Reads until the end; answers how many bytes, or -1 with errno when it ends in an error. */
long drain(int fd);
/* One look with poll at all that a stream can say. */
unsigned looked(int fd, int milliseconds);
/* The socket's pending error, cleared. */
int pending(int fd);
void nonblocking(int fd, bool on);
void nap(int milliseconds);
/* The address that server sides listen on. */
struct sockaddr_in address(void);
/* The listener, when this side is the server; -1 otherwise. */
int listener(void);
bool is_server(void);
long long now_ms(void);
/* A thread; the subject fails when there is none. */
pthread_t start(void *(*run)(void *), void *argument);
/* Installs a handler with these flags. */
void handle(int number, void (*handler)(int), int flags);
/* Waits until another thread of this process, by its thread id, sleeps in the kernel. */
void until_asleep(int tid);

/* What the peer does next, it does so many milliseconds after it was told, and this side does not wait for it. */
void later(int milliseconds);
/* Each acts on the peer's end of a connection, given as this side's descriptor, and answers what the peer's call
 * answered, with its errno. */
long peer_send(int fd, const char *bytes);
long peer_send_pattern(int fd, long count);
long peer_oob(int fd, const char *bytes);
long peer_shutdown(int fd, int how);
long peer_close(int fd);
/* Closes with linger 0. */
long peer_reset(int fd);
long peer_fill(int fd);
/* Reads so many bytes, all of them the pattern's from where the peer stopped; answers how many were right. */
long peer_take(int fd, long count);
/* Reads to the end; answers how many bytes. */
long peer_drain(int fd);
/* As `text`: what one read of at most `count` bytes that does not wait gives. */
const char *peer_read(int fd, long count);
/* As above, but waits until there is something. */
const char *peer_wait_read(int fd, long count);
unsigned peer_poll(int fd);
int peer_pending(int fd);
/* What a peer sleeps in. */
enum sleep { IN_RECV, IN_POLL, IN_EPOLL };
/* The peer falls asleep on the connection, and takes nothing of what wakes it. Returns when it sleeps. */
void peer_sleeps(int fd, enum sleep in);
/* The peer does nothing; returns when everything before is done. */
void peer_done(void);
/* Answers bytes with the same bytes, so many in all. */
long peer_echo(int fd, long count);
/* Kills the peer's process; nothing can be asked of it afterwards. */
void peer_die(void);

#endif
