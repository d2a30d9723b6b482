/* What the cases share: a mux with TCP connections, whose messages begin with their length in four bytes. */
#ifndef SCENE_H
#define SCENE_H

#include "../kcm-shared/sockets.h"

#include <stddef.h>
#include <sys/types.h>

/* A TCP connection: the end that is attached, and the one that is not. */
struct pair {
    int tcp, peer;
};

long milliseconds(void);
struct pair connection(void);
struct pair attached(int kcm);
void put(int fd, const char *text); /* a message, in one write */
ssize_t get(int fd, char *text);    /* a message's text without its length, and -1 within a second if there is none */
void *receive_one(void *kcm); /* for a thread: answers what recv(2) of one message does */
void ends(pid_t child);         /* a child, which did what it should */
int descriptors(void);              /* that this process has, the library's included */

/* The cases. */
void absurd_lengths(void);
void asleep_before(void);
void attached_once(void);
void backlog(void);
void cancelled_reader(void);
void cancelled_sender(void);
void cancelled_splice(void);
void centuries(void);
void child_closes(void);
void ended_by_handler(void);
void execs_in_shared_memory(void);
void forged_socket(void);
void herd(void);
void idle(void);
void in_turn(void);
void inherited_limit(void);
void killed_senders(void);
void left_to_those_who_can(void);
void lent_and_wanted(void);
void limited(void);
void low_water(void);
void many_given_on(void);
void mux_is_gone(void);
void none_to_spare(void);
void nothing_skipped(void);
void passed_on(void);
void passer_is_gone(void);
void posted_while_forking(void);
void sender_in_child(void);
void signals(void);
void stopped(void);
void read_together(void);
void streams(void);
void woken_and_killed(void);
void woken_together(void);
void wrong_headers(void);

#endif
