/*
 * What the cases of the conformance program share.
 *
 * A case is a function that prints facts: fact("name", "value of %d", 1) prints "group.case.name: value of 1". Values
 * hold nothing that differs from run to run: no times, process ids, addresses, ports or descriptors. Functions that
 * return a string return one of a ring of buffers, which stays valid for the next fifty calls or so.
 */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include <linux/bpf.h>
#include <linux/kcm.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#ifndef SOL_KCM
#define SOL_KCM 281
#endif
#ifndef MSG_BATCH
#define MSG_BATCH 0x40000
#endif

struct test_case {
    const char *name;
    void (*run)(void);
};

struct group {
    const char *name;
    const struct test_case *cases; /* ends with a case without a name */
};

extern const struct group group_socket, group_options, group_attach, group_parser, group_cut, group_receive, group_send,
    group_queue, group_broken, group_transfer, group_ready, group_lower, group_steer, group_process, group_threads,
    group_proc, group_bpf, group_posted, group_fields;

/* Which messages a socket of either type is to be tried with. */
extern const int types[2]; /* SOCK_DGRAM, SOCK_SEQPACKET */
const char *type_name(int type);

/*
 * Facts. fact(name, format, ...) is print_fact with up to eight values, which are evaluated from left to right: C
 * leaves the order of a function's arguments open, and here most of them act.
 */
void print_fact(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define FACT_COUNT(_0, _1, _2, _3, _4, _5, _6, _7, _8, n, ...) FACT_##n
#define fact(name, ...) FACT_COUNT(__VA_ARGS__, 8, 7, 6, 5, 4, 3, 2, 1, 0, )(name, __VA_ARGS__)
#define FACT_HELD(n, value) __auto_type held_##n = (value)
#define FACT_0(name, f) print_fact(name, f)
#define FACT_1(name, f, a) do { FACT_HELD(1, a); print_fact(name, f, held_1); } while (0)
#define FACT_2(name, f, a, b) \
    do { FACT_HELD(1, a); FACT_HELD(2, b); print_fact(name, f, held_1, held_2); } while (0)
#define FACT_3(name, f, a, b, c) \
    do { FACT_HELD(1, a); FACT_HELD(2, b); FACT_HELD(3, c); print_fact(name, f, held_1, held_2, held_3); } while (0)
#define FACT_4(name, f, a, b, c, d) \
    do { FACT_HELD(1, a); FACT_HELD(2, b); FACT_HELD(3, c); FACT_HELD(4, d); \
         print_fact(name, f, held_1, held_2, held_3, held_4); } while (0)
#define FACT_5(name, f, a, b, c, d, e) \
    do { FACT_HELD(1, a); FACT_HELD(2, b); FACT_HELD(3, c); FACT_HELD(4, d); FACT_HELD(5, e); \
         print_fact(name, f, held_1, held_2, held_3, held_4, held_5); } while (0)
#define FACT_6(name, f, a, b, c, d, e, g) \
    do { FACT_HELD(1, a); FACT_HELD(2, b); FACT_HELD(3, c); FACT_HELD(4, d); FACT_HELD(5, e); FACT_HELD(6, g); \
         print_fact(name, f, held_1, held_2, held_3, held_4, held_5, held_6); } while (0)
#define FACT_7(name, f, a, b, c, d, e, g, h) \
    do { FACT_HELD(1, a); FACT_HELD(2, b); FACT_HELD(3, c); FACT_HELD(4, d); FACT_HELD(5, e); FACT_HELD(6, g); \
         FACT_HELD(7, h); print_fact(name, f, held_1, held_2, held_3, held_4, held_5, held_6, held_7); } while (0)
#define FACT_8(name, f, a, b, c, d, e, g, h, i) \
    do { FACT_HELD(1, a); FACT_HELD(2, b); FACT_HELD(3, c); FACT_HELD(4, d); FACT_HELD(5, e); FACT_HELD(6, g); \
         FACT_HELD(7, h); FACT_HELD(8, i); \
         print_fact(name, f, held_1, held_2, held_3, held_4, held_5, held_6, held_7, held_8); } while (0)
void die(const char *what) __attribute__((noreturn));
const char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *error_name(int error);
const char *result(long value);            /* "5", or "-1/EAGAIN" from errno */
const char *made(int fd);                  /* "fd", or "-1/EINVAL" from errno */
const char *quoted(const void *data, size_t length); /* long ones as a length and a checksum */
const char *events(unsigned events);       /* "IN|OUT" */
const char *message_flags(unsigned flags); /* "EOR|TRUNC" */

/* Time. Nothing is expected within `quiet` milliseconds that has not happened by then. */
enum { quiet = 120 };
int others_run(void);                      /* whether threads of this process have work to do still */
void settle(void);                         /* lets everything that was begun come to its end */
long milliseconds(void);

/* Sockets. All die when they fail, except attach, unattach and clone_of, which return what ioctl did. */
struct tcp {
    int near; /* the end to attach */
    int peer;
};
struct tcp tcp_pair(void);                 /* over 127.0.0.1, without Nagle's delay, both ends non-blocking */
struct tcp tcp_pair_with(int receive_buffer, int send_buffer);
struct tcp tcp_pair_of(int near, int peer); /* between two families: with AF_INET6 and AF_INET near has a mapped address */
int kcm(int type);
int attach(int kcm_fd, int tcp_fd, int program);
int unattach(int kcm_fd, int tcp_fd);
int clone_of(int kcm_fd);                  /* the new descriptor */
int option(int fd, int level, int name);   /* an int, or -1 with errno */
int set_option(int fd, int level, int name, int value);
int recv_disable(int kcm_fd, int value);
void limit_time(int fd, int option, int milliseconds); /* SO_RCVTIMEO, SO_SNDTIMEO */

/* A mux with one TCP connection attached through a parser for messages with a length of four bytes. */
struct scene {
    int k;
    struct tcp tcp;
};
struct scene scene(int type);
struct scene scene_with(int type, int program);

/* Messages: a length in four bytes, the most significant first, then so many letters. */
size_t put_message(void *to, char letter, size_t payload);
void send_message(int tcp_fd, char letter, size_t payload);
void send_bytes(int tcp_fd, const void *data, size_t length); /* all of them, by one call */

/* Looking. Each waits up to `quiet` for something to come first. */
const char *receive(int fd, size_t space, int flags);  /* one recvmsg: "8 EOR "..."" */
const char *drain(int kcm_fd);                         /* "a(9),b(13),EAGAIN": letters and lengths */
const char *stream(int tcp_fd);                        /* all that came: "\"abc\"", and "+EOF" or "+ECONNRESET" */
size_t swallow(int tcp_fd, char *buffer, size_t most); /* the bytes themselves */
const char *polled(int fd);                            /* at once, all events asked for */
const char *polled_for(int fd, short asked, int wait); /* "IN", or "0" */
const char *socket_error(int fd);                      /* SO_ERROR by name */

/* Programs, made of their instructions. Those that the cases use return the length that they found. */
#define INSN(c, d, s, o, i) \
    ((struct bpf_insn){.code = (uint8_t)(c), .dst_reg = (d), .src_reg = (s), .off = (int16_t)(o), .imm = (int32_t)(i)})
#define MOV_IMM(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define MOV_REG(d, s) INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOV32_IMM(d, i) INSN(BPF_ALU | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD_IMM(d, i) INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define ALU_IMM(op, d, i) INSN(BPF_ALU64 | (op) | BPF_K, d, 0, 0, i)
#define LOAD_ABS(size, offset) INSN(BPF_LD | BPF_ABS | (size), 0, 0, 0, offset)
#define LOAD_IND(size, reg, offset) INSN(BPF_LD | BPF_IND | (size), 0, reg, 0, offset)
#define LOAD(size, d, s, o) INSN(BPF_LDX | BPF_MEM | (size), d, s, o, 0)
#define STORE(size, d, s, o) INSN(BPF_STX | BPF_MEM | (size), d, s, o, 0)
#define STORE_IMM(size, d, o, i) INSN(BPF_ST | BPF_MEM | (size), d, 0, o, i)
#define LOAD_MAP(d, fd) INSN(BPF_LD | BPF_DW | BPF_IMM, d, BPF_PSEUDO_MAP_FD, 0, fd), INSN(0, 0, 0, 0, 0)
#define LOAD_IMM64(d, low, high) INSN(BPF_LD | BPF_DW | BPF_IMM, d, 0, 0, low), INSN(0, 0, 0, 0, high)
#define JUMP_IMM(op, d, i, o) INSN(BPF_JMP | (op) | BPF_K, d, 0, o, i)
#define CALL(helper) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
#define TO_NETWORK_ORDER(d, bits) INSN(BPF_ALU | BPF_END | BPF_TO_BE, d, 0, 0, bits)
#define EXIT() INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define LENGTH_OF(array) (sizeof(array) / sizeof((array)[0]))

int bpf_call(int command, union bpf_attr *attributes, size_t size);
int load(int program_type, const struct bpf_insn *insns, size_t count); /* the descriptor, or -1 */
int array_map(int value_size, int entries);
int parser_be32(void);             /* four bytes, and as many as they say */
int parser_constant(int value);    /* the same length always */
int parser_verbatim(void);         /* what four bytes say: any result */

/* Processes and threads. */
pid_t child(void);                 /* fork, and the child ends with its parent's case */
int child_ended(pid_t pid, int wait); /* its exit status; -1 after so many milliseconds, and it is killed */
extern char *program_path;

#endif
