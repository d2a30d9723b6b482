/* A process at the other end of a TCP connection, without KCM, which does what it is told. */
#ifndef PEER_H
#define PEER_H

#include "../kcm-shared/sockets.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum order {
    SAY,    /* sends message `number` of `size` bytes */
    HEAR,   /* receives it, and checks it */
    MUTTER, /* sends only the part of it between `size` >> 32 and the lower half, of one that is 100000 bytes long */
    FLOOD,  /* sends messages of `size` bytes from `number` on, as long as it need not wait: how many */
    FINISH, /* sends the rest of the one that did not fit */
    ECHO,   /* sends `number` messages of `size` bytes, and receives as many, in any order: how many were as they should be */
    QUEUED, /* how many bytes it could read */
    UNSENT, /* how many bytes of what it sent are still on the way */
    SHUT,   /* shutdown(2), `number` says how */
    CLOSE,
    ENDED,  /* 0 when it reads an end of file, or the error */
    URGE,   /* sends a byte of urgent data: 1 */
    GIVE,   /* starts a program without the library that has the connection as its input: 0, or the error */
};

struct peer {
    int tcp; /* this end of the connection */
    int orders;
    pid_t pid;
};

/* Connects a new peer: with `connects` this end does, else the peer. So many small messages pass both ways first that the
 * connection has moved, if it is to. */
struct peer peer_of(int connects, int receive_buffer);
/* One that has said nothing: what is attached now stays on TCP. */
struct peer new_peer(int connects);
long ask(struct peer *peer, enum order order, long number, long size);
void tell(struct peer *peer, enum order order, long number, long size);
long answer(struct peer *peer);
void kill_peer(struct peer *peer);
/* What a peer does that is told GIVE. */
long give_away(int tcp);

/* Message `number`: `size` bytes, which begin with the length of the rest. */
void fill(unsigned char *message, long number, size_t size);
int is_message(const unsigned char *message, long number, size_t size);

#endif
