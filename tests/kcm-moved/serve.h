/* Processes that give back what they receive on a KCM socket, until they are killed. */
#ifndef SERVE_H
#define SERVE_H

#include "moved.h"

#include <sys/types.h>

/* How they wait: asleep in recv(2), several threads of them, or in an edge-triggered set. */
enum way { ASLEEP, THREADS, EPOLL, ways };

void serve(int kcm, enum way way) __attribute__((noreturn));
/* Receives a message, if there is one, and gives it back, to who sent it if the socket tells: whether there was. */
int serve_one(int kcm, int flags);

/* A child that serves a socket which it is yet to be passed. It has nothing of what is made later. */
struct receiver {
    pid_t pid;
    int through;
};
struct receiver receiver_of(enum way way);
/* Waits until it was: before that the socket's mux ends with those who have it. */
void has_received(const struct receiver *receiver);
/* A child that alone goes on with a mux and its connections, once this process has let go of them: 0 in it. */
pid_t alone_with(int kcm, const int *tcp, int count);

/* Has this program take the place of the one that runs, with a KCM socket: `serve WAY`, or `turns LEFT`, which gives one
 * message back, and runs the program anew for the next one. */
void run_anew(int kcm, const char *verb, int number);
/* What it does then. */
int serves_anew(int kcm, const char *verb, int number);

/* What it does when it is run without the library: it takes what it is passed at a socket with a number, once. */
int hears_bare(int ready, int number);

void end(pid_t child);

#endif
