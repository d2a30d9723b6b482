/*
 * The load test of KCM: what the program's two roles share.
 *
 *     load BOARD make MESSAGES FLAGS    makes the board
 *     load BOARD peers PORT             processes at the far ends of the TCP connections, without KCM
 *     load BOARD worker PORT SEED       the program with KCM sockets
 *
 * The board is a file that all processes map. Every message has a number that counts through its direction; the board
 * has a bit for each that arrived, and for those to the worker where in which stream it stands. So at the end it is
 * known of every message whether it arrived, and of one that did not, whether that may be.
 *
 * A message: its length without these four bytes (big endian), who sent it (connection or KCM socket), its number in
 * what that one sent, its number in its direction, and bytes that follow from the latter.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    with_kills = 1,     /* peers are killed */
    with_forks = 2,     /* the worker's receivers are processes, which are killed */
    without_churn = 4,  /* nothing comes or goes */
    most_connections = 1 << 16,
    most_peers = 1 << 12,
    peers_at_a_time = 4,
    muxes = 2,
    clones = 4, /* of a mux, that receive */
    senders_of_mux = clones + 1,
    connections_of_mux = 8,
    limit = 131072, /* the longest message */
    head_size = 16,
    none = -1,
};

enum fate { lives, unattached, dead };

struct connection {
    atomic_int peer;         /* who has the other end */
    atomic_int stop;         /* the peer is to send no more, and FIN */
    _Atomic uint64_t written; /* bytes that the peer sent, once it has stopped */
    _Atomic int64_t last;    /* the last message that it began */
    atomic_int fate;
    _Atomic int64_t may_be_lost; /* the message that unattach cut off */
};

/* Of a message to the worker. */
struct record {
    uint64_t end; /* bytes of its stream up to its end */
    int64_t previous; /* the one before it in its stream */
    int32_t connection; /* its number plus one; 0: whoever took the message's number was killed before it was sent */
};

struct board {
    uint64_t messages; /* in each direction */
    int flags;
    atomic_int failed, failures, peers_end, worker_ends;
    _Atomic uint64_t to_worker, to_peers;             /* begun */
    _Atomic uint64_t worker_got, peers_got;
    _Atomic uint64_t cut_off, clones, attached, kills;
    atomic_int next_connection, next_peer;
    _Atomic uint32_t sequences[muxes * senders_of_mux]; /* of KCM sockets: what each has sent */
    atomic_int in_parts[muxes * clones];                /* whose receiver has read a message's beginning only */
    struct { atomic_int pid, killed; } peers[most_peers];
    struct connection connections[most_connections];
};

extern struct board *board;
extern struct record *records;

void make_board(const char *path, uint64_t messages, int flags);
void map_board(const char *path);
void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t hash(uint64_t number);
uint64_t now_ms(void);
void nap(unsigned microseconds);

/* Direction 0 is to the worker, 1 to the peers. */
size_t message_size(int direction, uint64_t number);
size_t make_message(char *to, int direction, uint32_t from, uint32_t sequence, uint64_t number);
/* Checks one, enters it in the board; the last sequence number of its sender here, if given, must be lower. */
void got_message(const char *bytes, size_t size, int direction, uint32_t *last, size_t senders);
int arrived(int direction, uint64_t number);

int run_peers(int port);
int run_worker(int port, uint64_t seed);

/* worker.c for churn.c */
struct mux {
    int type, socket[clones], sender, tcp[connections_of_mux];
    int id[connections_of_mux];
};
int attach_new(struct mux *mux, int place, int port);
void take_away(struct mux *mux, int place);
int clone_of(int kcm);
void churn(struct mux *mux, int port, uint64_t *random);
void look_for_errors(struct mux *mux, int port);
#endif
