/* What a parser reads of its context, struct __sk_buff, besides the bytes. */
#define _GNU_SOURCE
#include "conformance.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#define AT(field) offsetof(struct __sk_buff, field)

/* How a value is printed: whether it is zero, where the value itself differs from run to run. */
enum form { number, hexadecimal, some };

struct load_of {
    const char *name;
    int size, offset;
    enum form form;
};

/* In the kernel cb holds what TCP left there. */
static const struct load_of loads[] = {
    {"len", BPF_W, AT(len), number},
    {"pkt_type", BPF_W, AT(pkt_type), number},
    {"mark", BPF_W, AT(mark), number},
    {"queue_mapping", BPF_W, AT(queue_mapping), number},
    {"protocol", BPF_W, AT(protocol), hexadecimal},
    {"protocol, upper half", BPF_H, AT(protocol) + 2, hexadecimal},
    {"protocol, second byte", BPF_B, AT(protocol) + 1, hexadecimal},
    {"vlan_present", BPF_W, AT(vlan_present), number},
    {"vlan_tci", BPF_W, AT(vlan_tci), number},
    {"vlan_proto", BPF_W, AT(vlan_proto), number},
    {"priority", BPF_W, AT(priority), number},
    {"ingress_ifindex", BPF_W, AT(ingress_ifindex), number},
    {"ifindex", BPF_W, AT(ifindex), number},
    {"tc_index", BPF_W, AT(tc_index), number},
    {"cb 0", BPF_W, AT(cb), some},
    {"cb 1", BPF_W, AT(cb[1]), some},
    {"cb 2", BPF_W, AT(cb[2]), some},
    {"cb 3", BPF_W, AT(cb[3]), some},
    {"cb 4", BPF_W, AT(cb[4]), some},
    {"hash", BPF_W, AT(hash), some},
    {"napi_id", BPF_W, AT(napi_id), number},
    {"gso_segs", BPF_W, AT(gso_segs), number},
    {"gso_size", BPF_W, AT(gso_size), number},
    {"sk", BPF_DW, AT(sk), some},
};

/* A parser that writes down what it reads, in eight bytes for each. */
static int recorder(int map)
{
    static struct bpf_insn insns[20 + 2 * LENGTH_OF(loads)];
    const struct bpf_insn begin[] = {MOV_REG(6, 1),
                                     STORE_IMM(BPF_W, 10, -4, 0),
                                     MOV_REG(2, 10),
                                     ADD_IMM(2, -4),
                                     LOAD_MAP(1, map),
                                     CALL(BPF_FUNC_map_lookup_elem),
                                     JUMP_IMM(BPF_JNE, 0, 0, 2),
                                     MOV_IMM(0, 0),
                                     EXIT(),
                                     MOV_REG(7, 0)};
    const struct bpf_insn end[] = {LOAD_ABS(BPF_W, 0), ADD_IMM(0, 4), EXIT()};
    struct bpf_insn *to = insns;
    to = (struct bpf_insn *)mempcpy(to, begin, sizeof begin);
    for (size_t i = 0; i < LENGTH_OF(loads); i++) {
        *to++ = LOAD(loads[i].size, 8, 6, loads[i].offset);
        /* Of a pointer no bits may get out. */
        if (loads[i].offset == AT(sk)) {
            *to++ = JUMP_IMM(BPF_JEQ, 8, 0, 1);
            *to++ = MOV_IMM(8, 1);
        }
        *to++ = STORE(BPF_DW, 7, 8, (int)(8 * i));
    }
    to = (struct bpf_insn *)mempcpy(to, end, sizeof end);
    int program = load(BPF_PROG_TYPE_SOCKET_FILTER, insns, (size_t)(to - insns));
    if (program < 0)
        die("loading the recorder");
    return program;
}

/* A mux whose parser writes down what it reads. */
struct recorded {
    struct scene s;
    int map;
};

static struct recorded record(struct tcp tcp)
{
    struct recorded r = {.s = {.k = kcm(SOCK_DGRAM), .tcp = tcp}, .map = array_map(8 * LENGTH_OF(loads), 1)};
    if (attach(r.s.k, tcp.near, recorder(r.map)))
        die("attach");
    return r;
}

static const char *shown(uint64_t value, enum form form)
{
    if (form == some)
        return value ? "some" : "zero";
    return text(form == hexadecimal ? "%#llx" : "%llu", (unsigned long long)value);
}

/* What the parser read when it was last called. */
static void look(const struct recorded *r, uint64_t *values)
{
    int key = 0;
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_fd = (uint32_t)r->map;
    attributes.key = (uint64_t)(uintptr_t)&key;
    attributes.value = (uint64_t)(uintptr_t)values;
    if (bpf_call(BPF_MAP_LOOKUP_ELEM, &attributes, sizeof attributes))
        die("looking up what was read");
}

static uint64_t read_of(const struct recorded *r, const char *name)
{
    uint64_t values[LENGTH_OF(loads)];
    look(r, values);
    for (size_t i = 0; i < LENGTH_OF(loads); i++)
        if (!strcmp(loads[i].name, name))
            return values[i];
    die(name);
}

/* All that is read of a first message, of a later one that comes in two segments, and of one of more than 64 KiB. */
static void all_of(struct tcp tcp)
{
    enum { large = 90000 };
    static char message[large + 4];
    uint64_t first[LENGTH_OF(loads)], later[LENGTH_OF(loads)], stream[LENGTH_OF(loads)];
    struct recorded r = record(tcp);
    send_message(tcp.peer, 'a', 15);
    const char *got = drain(r.s.k);
    look(&r, first);
    put_message(message, 'b', 26);
    send_bytes(tcp.peer, message, 2);
    settle();
    send_bytes(tcp.peer, message + 2, 28);
    got = text("%s %s", got, drain(r.s.k));
    look(&r, later);
    send_message(tcp.peer, 'c', large);
    got = text("%s %s", got, drain(r.s.k));
    look(&r, stream);
    fact("messages", "%s", got);
    for (size_t i = 0; i < LENGTH_OF(loads); i++) {
        enum form form = loads[i].form;
        /* How much of a long stream comes at once is for TCP to choose. */
        fact(loads[i].name, "%s, %s, %s", shown(first[i], form), shown(later[i], form),
             shown(stream[i], loads[i].offset == AT(len) ? some : form));
    }
}

static void ipv4(void)
{
    all_of(tcp_pair());
}

static void ipv6(void)
{
    all_of(tcp_pair_of(AF_INET6, AF_INET6));
}

static void mapped(void)
{
    all_of(tcp_pair_of(AF_INET6, AF_INET));
}

/* A stream that TCP cuts into segments of a thousand bytes, and sends many at a time. */
static void small_segments(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct tcp tcp = {.peer = socket(AF_INET, SOCK_STREAM, 0)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    set_option(listener, IPPROTO_TCP, TCP_MAXSEG, 1000);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&address, &length) ||
        connect(tcp.peer, (struct sockaddr *)&address, length))
        die("small segments");
    tcp.near = accept(listener, NULL, NULL);
    struct recorded r = record(tcp);
    send_message(tcp.peer, 'a', 90000);
    const char *got = drain(r.s.k);
    fact("gso_segs", "%s %s", got, read_of(&r, "gso_segs") > 1 ? "several" : "one");
    fact("gso_size", "%s %s", got, shown(read_of(&r, "gso_size"), some));
}

/* What the sender's socket options leave in the packets that it sends to this host. */
static void senders_options(void)
{
    static const struct {
        const char *name, *field;
        int option, value;
    } list[] = {{"SO_PRIORITY", "priority", SO_PRIORITY, 5}, {"SO_MARK", "mark", SO_MARK, 7}};
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        struct recorded r = record(tcp_pair());
        set_option(r.s.tcp.near, SOL_SOCKET, list[i].option, list[i].value);
        send_message(r.s.tcp.peer, 'a', 1);
        const char *got = drain(r.s.k);
        fact(text("%s of the receiver", list[i].name), "%s %s", got, shown(read_of(&r, list[i].field), number));
        struct recorded of_peer = record(tcp_pair());
        set_option(of_peer.s.tcp.peer, SOL_SOCKET, list[i].option, list[i].value);
        send_message(of_peer.s.tcp.peer, 'a', 1);
        got = drain(of_peer.s.k);
        fact(text("%s of the sender", list[i].name), "%s %s", got, shown(read_of(&of_peer, list[i].field), number));
    }
}

/* The other fields: which of them load. */
static void refused(void)
{
    static const struct load_of list[] = {{"tc_classid", BPF_W, AT(tc_classid), number},
                                          {"data", BPF_W, AT(data), number},
                                          {"data_end", BPF_W, AT(data_end), number},
                                          {"data_meta", BPF_W, AT(data_meta), number},
                                          {"remote_ip4", BPF_W, AT(remote_ip4), number},
                                          {"local_ip6", BPF_W, AT(local_ip6), number},
                                          {"local_port", BPF_W, AT(local_port), number},
                                          {"flow_keys", BPF_DW, AT(flow_keys), number},
                                          {"tstamp", BPF_DW, AT(tstamp), number},
                                          {"wire_len", BPF_W, AT(wire_len), number},
                                          {"hwtstamp", BPF_DW, AT(hwtstamp), number},
                                          {"tstamp_type", BPF_B, AT(tstamp_type), number},
                                          {"gso_segs", BPF_W, AT(gso_segs), number},
                                          {"gso_size", BPF_W, AT(gso_size), number},
                                          {"napi_id", BPF_W, AT(napi_id), number},
                                          {"half of hash", BPF_H, AT(hash), number},
                                          {"eight of hash", BPF_DW, AT(hash), number},
                                          {"half of sk", BPF_W, AT(sk), number},
                                          {"sk", BPF_DW, AT(sk), number},
                                          {"eight of len", BPF_DW, AT(len), number},
                                          {"the end", BPF_W, sizeof(struct __sk_buff), number}};
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        const struct bpf_insn insns[] = {LOAD(list[i].size, 0, 1, list[i].offset), MOV_IMM(0, 0), EXIT()};
        int program = load(BPF_PROG_TYPE_SOCKET_FILTER, insns, LENGTH_OF(insns));
        fact(list[i].name, "%s", made(program));
        if (program >= 0)
            close(program);
    }
    const struct bpf_insn family[] = {LOAD(BPF_DW, 0, 1, AT(sk)), JUMP_IMM(BPF_JEQ, 0, 0, 1),
                                      LOAD(BPF_W, 0, 0, offsetof(struct bpf_sock, family)), EXIT()};
    fact("family of sk", "%s", made(load(BPF_PROG_TYPE_SOCKET_FILTER, family, LENGTH_OF(family))));
}

static const struct test_case cases[] = {{"ipv4", ipv4},
                                         {"ipv6", ipv6},
                                         {"mapped", mapped},
                                         {"segments", small_segments},
                                         {"sender", senders_options},
                                         {"refused", refused},
                                         {0}};
const struct group group_fields = {"fields", cases};
