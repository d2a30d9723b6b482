/* What the cases share, and the cases. */
#ifndef MOVED_H
#define MOVED_H

#include "peer.h"

enum { largest = 4 << 20, patience = 10000 };

extern unsigned char buffer[largest];

/* A mux with a connection. The peer comes first, so that it does not have the mux. */
int attached(int type, int connects, struct peer *peer);
int polls(int fd, int events, int milliseconds);
/* Looks until it has these bits: for those that follow an error, for which poll(2) would not wait. */
int polls_until(int fd, int events, int bits);
int queued(int fd);
/* Waits until a mux has left so many bytes to be read. */
int queued_falls_to(int fd, int bytes);
int error_of(int fd);
/* Receives message `number` of `size` bytes. */
void expect(int kcm, long number, size_t size);
void say(int kcm, long number, size_t size);

void sizes_in(void);
void sizes_out(void);
void parts(void);
void floods(void);
void fills(void);
void stalls(void);
void epolls(void);
void peer_closes(void);
void peer_shuts(void);
void peer_is_killed(void);
void unattaches(void);
void parser_fails(void);
void takes_too_long(void);
void raw(void);
void leaves(void);
void workers(void);
void generations(void);
void closed(void);
void found(void);
void changing(void);
void forking(void);
void refused(void);
void passes(void);
void passes_several(void);
void passes_mixed(void);
void passes_in_the_middle(void);
void passes_in_vain(void);
void executes(void);
void executes_in_turns(void);
void executes_mixed(void);
void executes_in_the_middle(void);
void executes_in_children(void);
void executes_in_vain(void);
void executes_bare(void);

#endif
