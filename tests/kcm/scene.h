/* What the cases share: a mux with TCP connections, whose messages begin with their length in four bytes. */
#ifndef SCENE_H
#define SCENE_H

#include <stddef.h>
#include <sys/types.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) \
            fail(__FILE__, __LINE__, #condition); \
    } while (0)

/* A TCP connection: the end that is attached, and the one that is not. */
struct pair {
    int tcp, peer;
};

void fail(const char *file, int line, const char *what) __attribute__((noreturn));
long milliseconds(void);
int kcm_socket(int type);
int clone_of(int kcm);
struct pair connection(void);
int attach(int kcm, int tcp); /* as ioctl */
int unattach(int kcm, int tcp);
struct pair attached(int kcm);
void put(int fd, const char *text); /* a message, in one write */
ssize_t get(int fd, char *text);    /* a message's text without its length, and -1 within a second if there is none */
int descriptors(void);              /* that this process has, the library's included */
void pass(int through, int fd);
int passed(int through);

/* Cases that are not in main.c. */
void asleep_before(void);
void backlog(void);
void cancelled_splice(void);
void herd(void);
void idle(void);
void in_turn(void);
void killed_senders(void);
void left_to_those_who_can(void);
void low_water(void);
void many_given_on(void);
void passer_is_gone(void);
void mux_is_gone(void);
void posted_while_forking(void);
void stopped(void);
void streams(void);
void woken_and_killed(void);
void wrong_headers(void);

#endif
