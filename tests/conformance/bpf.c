/* bpf(2): which programs load, and what they compute as parsers. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define LOADED(type, ...)                                                                                              \
    loaded_as(type, (struct bpf_insn[]){__VA_ARGS__},                                                                  \
              sizeof((struct bpf_insn[]){__VA_ARGS__}) / sizeof(struct bpf_insn))

static const char *loaded_as(int type, const struct bpf_insn *insns, size_t count)
{
    int fd = load(type, insns, count);
    const char *answer = made(fd);
    if (fd >= 0)
        close(fd);
    return answer;
}

static void program_types(void)
{
    static const struct {
        const char *name;
        int type;
    } list[] = {{"SOCKET_FILTER", BPF_PROG_TYPE_SOCKET_FILTER},
                {"SCHED_CLS", BPF_PROG_TYPE_SCHED_CLS},
                {"SK_SKB", BPF_PROG_TYPE_SK_SKB},
                {"UNSPEC", BPF_PROG_TYPE_UNSPEC},
                {"9999", 9999}};
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        fact(list[i].name, "constant %s, LD_ABS %s, cb[0] %s, data %s", LOADED(list[i].type, MOV_IMM(0, 0), EXIT()),
             LOADED(list[i].type, MOV_REG(6, 1), LOAD_ABS(BPF_W, 0), EXIT()),
             LOADED(list[i].type, LOAD(BPF_W, 0, 1, offsetof(struct __sk_buff, cb)), EXIT()),
             LOADED(list[i].type, LOAD(BPF_W, 0, 1, offsetof(struct __sk_buff, data)), EXIT()));
    }
}

static void rejected(void)
{
    enum { filter = BPF_PROG_TYPE_SOCKET_FILTER };
    fact("empty", "%s", loaded_as(filter, (struct bpf_insn[]){EXIT()}, 0));
    fact("no exit", "%s", LOADED(filter, MOV_IMM(0, 0)));
    fact("r0 not set", "%s", LOADED(filter, EXIT()));
    fact("falls off the end", "%s", LOADED(filter, MOV_IMM(0, 0), JUMP_IMM(BPF_JEQ, 0, 0, 1), EXIT()));
    fact("endless loop", "%s", LOADED(filter, MOV_IMM(0, 0), JUMP_IMM(BPF_JA, 0, 0, -1), EXIT()));
    fact("unknown instruction", "%s", LOADED(filter, INSN(0xff, 0, 0, 0, 0), EXIT()));
    fact("register 12", "%s", LOADED(filter, MOV_IMM(12, 0), EXIT()));
    fact("writes r10", "%s", LOADED(filter, MOV_IMM(10, 0), MOV_IMM(0, 0), EXIT()));
    fact("stack too deep", "%s", LOADED(filter, STORE_IMM(BPF_W, 10, -516, 0), MOV_IMM(0, 0), EXIT()));
    fact("stack not initialised", "%s", LOADED(filter, LOAD(BPF_W, 0, 10, -4), EXIT()));
    fact("context out of bounds", "%s", LOADED(filter, LOAD(BPF_W, 0, 1, 4000), EXIT()));
    fact("division by constant 0", "%s", LOADED(filter, MOV_IMM(0, 1), ALU_IMM(BPF_DIV, 0, 0), EXIT()));
    fact("shift by 64", "%s", LOADED(filter, MOV_IMM(0, 1), ALU_IMM(BPF_LSH, 0, 64), EXIT()));
    fact("LD_ABS without r6", "%s", LOADED(filter, LOAD_ABS(BPF_W, 0), EXIT()));
    fact("unknown helper", "%s", LOADED(filter, CALL(9999), EXIT()));
    fact("helper of tracing", "%s", LOADED(filter, CALL(BPF_FUNC_probe_read), EXIT()));
    fact("bounded loop", "%s",
         LOADED(filter, MOV_IMM(0, 0), MOV_IMM(2, 10), ADD_IMM(0, 1), ADD_IMM(2, -1), JUMP_IMM(BPF_JNE, 2, 0, -3),
                EXIT()));
    fact("returns a pointer", "%s", LOADED(filter, MOV_REG(0, 10), EXIT()));
    static struct bpf_insn long_one[5000];
    for (size_t i = 0; i < LENGTH_OF(long_one) - 1; i++)
        long_one[i] = MOV_IMM(0, 1);
    long_one[LENGTH_OF(long_one) - 1] = EXIT();
    fact("4096 instructions", "%s", loaded_as(filter, long_one + LENGTH_OF(long_one) - 4096, 4096));
    fact("5000 instructions", "%s", loaded_as(filter, long_one, 5000));
}

static void attributes(void)
{
    union bpf_attr attributes;
    const struct bpf_insn insns[] = {MOV_IMM(0, 0), EXIT()};
    static char log[4096];
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    attributes.insns = (uint64_t)(uintptr_t)insns;
    attributes.insn_cnt = 2;
    fact("no licence", "%s", made(bpf_call(BPF_PROG_LOAD, &attributes, sizeof attributes)));
    attributes.license = (uint64_t)(uintptr_t) "MIT";
    int fd = bpf_call(BPF_PROG_LOAD, &attributes, sizeof attributes);
    fact("licence MIT", "%s GETFD %d", made(fd), fcntl(fd, F_GETFD));
    attributes.insns = 8;
    fact("instructions at a bad pointer", "%s", made(bpf_call(BPF_PROG_LOAD, &attributes, sizeof attributes)));
    attributes.insns = (uint64_t)(uintptr_t)insns;
    attributes.prog_flags = 0x80000000u;
    fact("unknown flags", "%s", made(bpf_call(BPF_PROG_LOAD, &attributes, sizeof attributes)));
    attributes.prog_flags = 0;
    attributes.log_buf = (uint64_t)(uintptr_t)log;
    fact("log without level and size", "%s", made(bpf_call(BPF_PROG_LOAD, &attributes, sizeof attributes)));
    attributes.log_level = 1;
    attributes.log_size = sizeof log;
    fact("log", "%s said something %d", made(bpf_call(BPF_PROG_LOAD, &attributes, sizeof attributes)), log[0] != 0);
    struct {
        union bpf_attr attributes;
        char more[64];
    } longer;
    memset(&longer, 0, sizeof longer);
    attributes.log_buf = attributes.log_level = attributes.log_size = 0;
    longer.attributes = attributes;
    fact("longer, the rest zero", "%s", made(bpf_call(BPF_PROG_LOAD, &longer.attributes, sizeof longer)));
    longer.more[60] = 1;
    fact("longer, the rest not zero", "%s", made(bpf_call(BPF_PROG_LOAD, &longer.attributes, sizeof longer)));
    fact("as of Linux 4.6", "%s", made(bpf_call(BPF_PROG_LOAD, &attributes, 48)));
    fact("unknown command", "%s", result(bpf_call(9999, &attributes, sizeof attributes)));
    fact("null", "%s", result(bpf_call(BPF_PROG_LOAD, NULL, sizeof attributes)));
    memset(&attributes, 0, sizeof attributes);
    attributes.map_type = BPF_MAP_TYPE_ARRAY;
    fact("array without sizes", "%s", made(bpf_call(BPF_MAP_CREATE, &attributes, sizeof attributes)));
    fact("array", "%s", made(array_map(8, 4)));
}

/* What programs answer, seen from the messages that they cut. The bytes received are 0 1 2 ... f, "ABC". */
static const char *cuts(const struct bpf_insn *insns, size_t count)
{
    int program = load(BPF_PROG_TYPE_SOCKET_FILTER, insns, count);
    if (program < 0)
        return text("not loaded: %s", error_name(errno));
    struct scene s = scene_with(SOCK_DGRAM, program);
    static const char bytes[] = "\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17ABC";
    char buffer[64];
    send_bytes(s.tcp.peer, bytes, sizeof bytes - 1);
    ssize_t got = polled_for(s.k, POLLIN, quiet) ? recv(s.k, buffer, sizeof buffer, 0) : -1;
    const char *answer = text("message %s SO_ERROR %s", result(got), socket_error(s.tcp.near));
    close(s.k);
    close(s.tcp.near);
    close(s.tcp.peer);
    close(program);
    return answer;
}
#define CUTS(...)                                                                                                      \
    cuts((struct bpf_insn[]){__VA_ARGS__}, sizeof((struct bpf_insn[]){__VA_ARGS__}) / sizeof(struct bpf_insn))

static void loads(void)
{
    fact("byte at 9", "%s", CUTS(MOV_REG(6, 1), LOAD_ABS(BPF_B, 9), EXIT()));
    fact("half at 4, high byte", "%s", CUTS(MOV_REG(6, 1), LOAD_ABS(BPF_H, 4), ALU_IMM(BPF_RSH, 0, 8), EXIT()));
    fact("half at 4, low byte", "%s", CUTS(MOV_REG(6, 1), LOAD_ABS(BPF_H, 4), ALU_IMM(BPF_AND, 0, 0xff), EXIT()));
    fact("word at 4, low byte", "%s", CUTS(MOV_REG(6, 1), LOAD_ABS(BPF_W, 4), ALU_IMM(BPF_AND, 0, 0xff), EXIT()));
    fact("indirect, 3 + 4", "%s", CUTS(MOV_REG(6, 1), MOV_IMM(7, 3), LOAD_IND(BPF_B, 7, 4), EXIT()));
    fact("last byte", "%s", CUTS(MOV_REG(6, 1), LOAD_ABS(BPF_B, 18), ALU_IMM(BPF_AND, 0, 15), EXIT()));
    fact("beyond the end", "%s", CUTS(MOV_REG(6, 1), LOAD_ABS(BPF_B, 19), MOV_IMM(0, 5), EXIT()));
    fact("half across the end", "%s", CUTS(MOV_REG(6, 1), LOAD_ABS(BPF_H, 18), MOV_IMM(0, 5), EXIT()));
    fact("negative offset", "%s", CUTS(MOV_REG(6, 1), LOAD_ABS(BPF_B, -1), MOV_IMM(0, 5), EXIT()));
    fact("SKF_AD_PKTTYPE", "%s", CUTS(MOV_REG(6, 1), LOAD_ABS(BPF_B, -0x1000 + 4), MOV_IMM(0, 5), EXIT()));
    fact("clobbers r1 to r5", "%s",
         LOADED(BPF_PROG_TYPE_SOCKET_FILTER, MOV_REG(6, 1), LOAD_ABS(BPF_B, 0), MOV_REG(0, 1), EXIT()));
    fact("skb_load_bytes", "%s",
         CUTS(STORE_IMM(BPF_W, 10, -4, 0), MOV_IMM(2, 5), MOV_REG(3, 10), ADD_IMM(3, -4), MOV_IMM(4, 1),
              CALL(BPF_FUNC_skb_load_bytes), LOAD(BPF_B, 0, 10, -4), EXIT()));
    fact("skb_load_bytes beyond the end", "%s",
         CUTS(STORE_IMM(BPF_W, 10, -4, -1), MOV_IMM(2, 18), MOV_REG(3, 10), ADD_IMM(3, -4), MOV_IMM(4, 4),
              CALL(BPF_FUNC_skb_load_bytes), EXIT()));
    fact("skb_load_bytes beyond the end, buffer", "%s",
         CUTS(STORE_IMM(BPF_W, 10, -4, -1), MOV_IMM(2, 18), MOV_REG(3, 10), ADD_IMM(3, -4), MOV_IMM(4, 4),
              CALL(BPF_FUNC_skb_load_bytes), LOAD(BPF_B, 0, 10, -4), ADD_IMM(0, 6), EXIT()));
    /* Where the headers of a segment were is not for a parser to know: what it finds there is not steady. */
    fact("skb_load_bytes_relative", "%s",
         LOADED(BPF_PROG_TYPE_SOCKET_FILTER, STORE_IMM(BPF_W, 10, -4, 0), MOV_IMM(2, 5), MOV_REG(3, 10), ADD_IMM(3, -4),
                MOV_IMM(4, 1), MOV_IMM(5, 1), CALL(BPF_FUNC_skb_load_bytes_relative), EXIT()));
    fact("skb_pull_data", "%s",
         LOADED(BPF_PROG_TYPE_SOCKET_FILTER, MOV_IMM(2, 0), CALL(BPF_FUNC_skb_pull_data), MOV_IMM(0, 0), EXIT()));
}

static void fields(void)
{
    static const struct {
        const char *name;
        int offset;
    } list[] = {{"len", offsetof(struct __sk_buff, len)},
                {"cb 0", offsetof(struct __sk_buff, cb)},
                {"cb 1", offsetof(struct __sk_buff, cb[1])},
                {"cb 4", offsetof(struct __sk_buff, cb[4])},
                {"protocol", offsetof(struct __sk_buff, protocol)},
                {"pkt_type", offsetof(struct __sk_buff, pkt_type)},
                {"mark", offsetof(struct __sk_buff, mark)},
                {"priority", offsetof(struct __sk_buff, priority)},
                {"queue_mapping", offsetof(struct __sk_buff, queue_mapping)},
                {"hash", offsetof(struct __sk_buff, hash)},
                {"family", offsetof(struct __sk_buff, family)},
                {"remote_port", offsetof(struct __sk_buff, remote_port)},
                {"tc_classid", offsetof(struct __sk_buff, tc_classid)},
                {"vlan_present", offsetof(struct __sk_buff, vlan_present)},
                {"gso_segs", offsetof(struct __sk_buff, gso_segs)},
                {"tstamp", offsetof(struct __sk_buff, tstamp)}};
    for (size_t i = 0; i < LENGTH_OF(list); i++)
        fact(list[i].name, "%s", LOADED(BPF_PROG_TYPE_SOCKET_FILTER, LOAD(BPF_W, 0, 1, list[i].offset), EXIT()));
    fact("len of 19", "%s", CUTS(LOAD(BPF_W, 0, 1, offsetof(struct __sk_buff, len)), EXIT()));
    fact("cb 0 is 0", "%s", CUTS(LOAD(BPF_W, 0, 1, offsetof(struct __sk_buff, cb)), ADD_IMM(0, 7), EXIT()));
    fact("cb written", "%s",
         CUTS(STORE_IMM(BPF_W, 10, -4, 0), MOV_IMM(2, 6), STORE(BPF_W, 1, 2, offsetof(struct __sk_buff, cb[2])),
              LOAD(BPF_W, 0, 1, offsetof(struct __sk_buff, cb[2])), EXIT()));
    fact("mark written", "%s",
         LOADED(BPF_PROG_TYPE_SOCKET_FILTER, MOV_IMM(2, 6), STORE(BPF_W, 1, 2, offsetof(struct __sk_buff, mark)),
                MOV_IMM(0, 0), EXIT()));
    fact("byte of len", "%s", CUTS(LOAD(BPF_B, 0, 1, offsetof(struct __sk_buff, len)), EXIT()));
}

static void arithmetic(void)
{
    fact("division by a register of 0", "%s",
         CUTS(MOV_IMM(0, 9), MOV_IMM(2, 0), INSN(BPF_ALU64 | BPF_DIV | BPF_X, 0, 2, 0, 0), ADD_IMM(0, 3), EXIT()));
    fact("remainder by a register of 0", "%s",
         CUTS(MOV_IMM(0, 9), MOV_IMM(2, 0), INSN(BPF_ALU64 | BPF_MOD | BPF_X, 0, 2, 0, 0), EXIT()));
    fact("32 bits clear the upper half", "%s",
         CUTS(LOAD_IMM64(0, 4, 7), INSN(BPF_ALU | BPF_ADD | BPF_K, 0, 0, 0, 1),
              INSN(BPF_ALU64 | BPF_MOV | BPF_X, 2, 0, 0, 0), ALU_IMM(BPF_RSH, 2, 32),
              INSN(BPF_ALU64 | BPF_ADD | BPF_X, 0, 2, 0, 0), EXIT()));
    fact("signed shift", "%s", CUTS(MOV_IMM(0, -16), ALU_IMM(BPF_ARSH, 0, 2), ADD_IMM(0, 10), EXIT()));
    fact("shift by a register of 65", "%s",
         CUTS(MOV_IMM(0, 3), MOV_IMM(2, 65), INSN(BPF_ALU64 | BPF_LSH | BPF_X, 0, 2, 0, 0), EXIT()));
    fact("32-bit shift by a register of 33", "%s",
         CUTS(MOV_IMM(0, 3), MOV_IMM(2, 33), INSN(BPF_ALU | BPF_LSH | BPF_X, 0, 2, 0, 0), EXIT()));
    fact("network order of 16 bits", "%s", CUTS(MOV_IMM(0, 0x0700), TO_NETWORK_ORDER(0, 16), EXIT()));
    fact("signed jump", "%s", CUTS(MOV_IMM(0, 4), MOV_IMM(2, -1), JUMP_IMM(BPF_JSGT, 2, 0, 1), MOV_IMM(0, 8), EXIT()));
    fact("unsigned jump", "%s", CUTS(MOV_IMM(0, 4), MOV_IMM(2, -1), JUMP_IMM(BPF_JGT, 2, 0, 1), MOV_IMM(0, 8), EXIT()));
    fact(
        "32-bit jump", "%s",
        CUTS(MOV_IMM(0, 4), LOAD_IMM64(2, 0, 1), INSN(BPF_JMP32 | BPF_JEQ | BPF_K, 2, 0, 1, 0), MOV_IMM(0, 8), EXIT()));
    fact("bits set", "%s", CUTS(MOV_IMM(0, 4), MOV_IMM(2, 6), JUMP_IMM(BPF_JSET, 2, 2, 1), MOV_IMM(0, 8), EXIT()));
    fact("stack of 8 bytes", "%s",
         CUTS(LOAD_IMM64(2, 0x01020304, 0x05060708), STORE(BPF_DW, 10, 2, -8), LOAD(BPF_B, 0, 10, -3), EXIT()));
}

static void maps(void)
{
    int map = array_map(4, 2), key = 1, value = 6;
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_fd = (uint32_t)map;
    attributes.key = (uint64_t)(uintptr_t)&key;
    attributes.value = (uint64_t)(uintptr_t)&value;
    fact("update", "%s", result(bpf_call(BPF_MAP_UPDATE_ELEM, &attributes, sizeof attributes)));
    fact("length from a map", "%s",
         CUTS(STORE_IMM(BPF_W, 10, -4, 1), MOV_REG(2, 10), ADD_IMM(2, -4), LOAD_MAP(1, map),
              CALL(BPF_FUNC_map_lookup_elem), JUMP_IMM(BPF_JNE, 0, 0, 1), EXIT(), LOAD(BPF_W, 0, 0, 0), EXIT()));
    fact("key beyond the end", "%s",
         CUTS(STORE_IMM(BPF_W, 10, -4, 7), MOV_REG(2, 10), ADD_IMM(2, -4), LOAD_MAP(1, map),
              CALL(BPF_FUNC_map_lookup_elem), JUMP_IMM(BPF_JNE, 0, 0, 2), MOV_IMM(0, 3), EXIT(), MOV_IMM(0, 9),
              EXIT()));
    key = 2;
    fact("update beyond the end", "%s", result(bpf_call(BPF_MAP_UPDATE_ELEM, &attributes, sizeof attributes)));
    fact("unchecked pointer", "%s",
         LOADED(BPF_PROG_TYPE_SOCKET_FILTER, STORE_IMM(BPF_W, 10, -4, 1), MOV_REG(2, 10), ADD_IMM(2, -4),
                LOAD_MAP(1, map), CALL(BPF_FUNC_map_lookup_elem), LOAD(BPF_W, 0, 0, 0), EXIT()));
    fact("bad map descriptor", "%s", LOADED(BPF_PROG_TYPE_SOCKET_FILTER, LOAD_MAP(1, 999), MOV_IMM(0, 0), EXIT()));
    fact("closed map", "%s", result(close(map)));
    fact("lookup in a closed map", "%s", result(bpf_call(BPF_MAP_LOOKUP_ELEM, &attributes, sizeof attributes)));
}

static const struct test_case cases[] = {{"types", program_types},
                                         {"rejected", rejected},
                                         {"attributes", attributes},
                                         {"loads", loads},
                                         {"fields", fields},
                                         {"arithmetic", arithmetic},
                                         {"maps", maps},
                                         {0}};
const struct group group_bpf = {"bpf", cases};
