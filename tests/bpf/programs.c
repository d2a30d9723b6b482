/* BPF_PROG_LOAD: what loads, and each error; the verifier's log. */
#include "facts.h"

#include <sys/resource.h>

static const struct bpf_insn zero[] = {MOV_IMM(0, 0), EXIT()};

static union bpf_attr good(void)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    attributes.insns = ADDRESS(zero);
    attributes.insn_cnt = LENGTH_OF(zero);
    attributes.license = ADDRESS("MIT");
    return attributes;
}

static union bpf_attr of(const struct bpf_insn *insns, size_t count)
{
    union bpf_attr attributes = good();
    attributes.insns = ADDRESS(insns);
    attributes.insn_cnt = (uint32_t)count;
    return attributes;
}

static const char *loaded(union bpf_attr attributes)
{
    int fd = bpf_call(BPF_PROG_LOAD, &attributes, sizeof attributes);
    const char *answer = made(fd);
    if (fd >= 0)
        close(fd);
    return answer;
}

#define LOADED(...)                                                                                                    \
    ({                                                                                                                 \
        const struct bpf_insn insns_[] = {__VA_ARGS__};                                                                \
        loaded(of(insns_, LENGTH_OF(insns_)));                                                                         \
    })
/* One attribute set to something else. */
#define WITH(member, value)                                                                                            \
    ({                                                                                                                 \
        union bpf_attr attributes_ = good();                                                                           \
        attributes_.member = (value);                                                                                  \
        loaded(attributes_);                                                                                           \
    })

static void attributes(void)
{
    fact("good", "%s", loaded(good()));
    int fd = load(BPF_PROG_TYPE_SOCKET_FILTER, zero, 2);
    fact("close-on-exec", "%d", fcntl(fd, F_GETFD));
    fact("lowest descriptor", "%d", fd == dup(0) - 1);
    close(fd);
    fact("no instructions", "%s", WITH(insn_cnt, 0));
    fact("very many instructions", "%s", WITH(insn_cnt, 2000000));
    static struct bpf_insn many[5000];
    for (size_t i = 0; i < LENGTH_OF(many); i++)
        many[i] = MOV_IMM(0, 0);
    many[4095] = many[4999] = zero[1];
    fact("4096 instructions", "%s", loaded(of(many, 4096)));
    many[4095] = many[0];
    fact("5000 instructions", "%s", loaded(of(many, 5000)));
    fact("instructions at null", "%s", WITH(insns, 0));
    fact("instructions at a bad pointer", "%s", WITH(insns, 8));
    char *page = last_page();
    memcpy(page + 4096 - 16, zero, 16);
    fact("instructions up to a page's end", "%s", WITH(insns, ADDRESS(page + 4096 - 16)));
    fact("instructions beyond a page's end", "%s", WITH(insns, ADDRESS(page + 4096 - 8)));
    fact("licence at null", "%s", WITH(license, 0));
    fact("licence at a bad pointer", "%s", WITH(license, 8));
    strcpy(page + 4092, "GPL");
    fact("licence up to a page's end", "%s", WITH(license, ADDRESS(page + 4092)));
    page[4095] = 'x';
    fact("licence beyond a page's end", "%s", WITH(license, ADDRESS(page + 4092)));
    memset(page, 'x', 200);
    page[200] = 0;
    fact("long licence", "%s", WITH(license, ADDRESS(page)));
    fact("empty licence", "%s", WITH(license, ADDRESS("")));
    fact("type 9999", "%s", WITH(prog_type, 9999));
    fact("unspecified type", "%s", WITH(prog_type, 0));
    fact("strict alignment", "%s", WITH(prog_flags, BPF_F_STRICT_ALIGNMENT));
    fact("unknown flag", "%s", WITH(prog_flags, 0x80000000u));
    fact("sleepable", "%s", WITH(prog_flags, BPF_F_SLEEPABLE));
    fact("attach type", "%s", WITH(expected_attach_type, 1));
    fact("interface", "%s", WITH(prog_ifindex, 1));
    fact("type to attach to", "%s", WITH(attach_btf_id, 1));
    fact("kernel version", "%s", WITH(kern_version, 1));
}

static void names(void)
{
    static const char *const list[] = {"a", "with.dot_9", "fifteen_letters", "sixteen_letters_", "a b", "a-b", "\xc3\xa4"};
    for (size_t i = 0; i < LENGTH_OF(list); i++) {
        union bpf_attr attributes = good();
        memcpy(attributes.prog_name, list[i], strnlen(list[i], 16));
        fact(text("name %zu", i), "%s", loaded(attributes));
    }
}

static void sizes(void)
{
    struct {
        union bpf_attr attributes;
        char more[8192];
    } longer;
    memset(&longer, 0, sizeof longer);
    longer.attributes = good();
    fact("size 0", "%s", made(bpf_call(BPF_PROG_LOAD, &longer.attributes, 0)));
    fact("size 24", "%s", made(bpf_call(BPF_PROG_LOAD, &longer.attributes, 24)));
    fact("size 48", "%s", made(bpf_call(BPF_PROG_LOAD, &longer.attributes, 48)));
    fact("size 1000, the rest zero", "%s", made(bpf_call(BPF_PROG_LOAD, &longer.attributes, 1000)));
    fact("size of a page", "%s", made(bpf_call(BPF_PROG_LOAD, &longer.attributes, 4096)));
    fact("more than a page", "%s", made(bpf_call(BPF_PROG_LOAD, &longer.attributes, 4097)));
    longer.more[600] = 1;
    fact("size 1000, the rest not zero", "%s", made(bpf_call(BPF_PROG_LOAD, &longer.attributes, 1000)));
    fact("at null", "%s", made(bpf_call(BPF_PROG_LOAD, NULL, sizeof longer.attributes)));
    fact("at a bad pointer", "%s", made(bpf_call(BPF_PROG_LOAD, (void *)8, sizeof longer.attributes)));
    char *page = last_page();
    memcpy(page + 4096 - 48, &longer.attributes, 48);
    fact("up to a page's end", "%s", made(bpf_call(BPF_PROG_LOAD, (void *)(page + 4096 - 48), 48)));
    fact("beyond a page's end", "%s", made(bpf_call(BPF_PROG_LOAD, (void *)(page + 4096 - 48), 49)));
    fact("unknown command", "%s", result(bpf_call(9999, &longer.attributes, sizeof longer.attributes)));
}

static void verifier(void)
{
    fact("no exit", "%s", LOADED(MOV_IMM(0, 0)));
    fact("returns a pointer", "%s", LOADED(MOV_REG(0, 10), EXIT()));
    fact("R0 not set", "%s", LOADED(EXIT()));
    fact("endless", "%s", LOADED(MOV_IMM(0, 0), JUMP_IMM(BPF_JA, 0, 0, -1), EXIT()));
    fact("bounded loop", "%s",
         LOADED(MOV_IMM(0, 0), MOV_IMM(2, 10), ADD_IMM(2, -1), JUMP_IMM(BPF_JNE, 2, 0, -2), EXIT()));
    fact("unknown instruction", "%s", LOADED(INSN(0xff, 0, 0, 0, 0), EXIT()));
    fact("register 12", "%s", LOADED(MOV_IMM(12, 0), EXIT()));
    fact("frame pointer written", "%s", LOADED(MOV_IMM(10, 0), MOV_IMM(0, 0), EXIT()));
    fact("division by 0", "%s", LOADED(MOV_IMM(0, 1), ALU_IMM(BPF_DIV, 0, 0), EXIT()));
    fact("stack too deep", "%s", LOADED(STORE_IMM(BPF_W, 10, -516, 0), MOV_IMM(0, 0), EXIT()));
    fact("context too far", "%s", LOADED(LOAD(BPF_W, 0, 1, 4000), EXIT()));
    fact("context's data", "%s", LOADED(LOAD(BPF_W, 0, 1, offsetof(struct __sk_buff, data)), EXIT()));
    fact("R6 not set", "%s", LOADED(LOAD_ABS(BPF_W, 0), EXIT()));
    fact("unreachable", "%s", LOADED(MOV_IMM(0, 0), EXIT(), MOV_IMM(0, 0), EXIT()));
    fact("unknown helper", "%s", LOADED(CALL(9999), EXIT()));
    fact("helper of tracing", "%s", LOADED(CALL(BPF_FUNC_probe_read), EXIT()));
    fact("map -1", "%s", LOADED(LOAD_MAP(1, -1), MOV_IMM(0, 0), EXIT()));
    fact("map closed", "%s", LOADED(LOAD_MAP(1, 998), MOV_IMM(0, 0), EXIT()));
    fact("map of standard input", "%s", LOADED(LOAD_MAP(1, 0), MOV_IMM(0, 0), EXIT()));
    int program = load(BPF_PROG_TYPE_SOCKET_FILTER, zero, 2);
    fact("map that is a program", "%s", LOADED(LOAD_MAP(1, program), MOV_IMM(0, 0), EXIT()));
    close(program);
    int map = map_of(BPF_MAP_TYPE_ARRAY, 4, 4, 2, 0);
    fact("map", "%s", LOADED(LOAD_MAP(1, map), MOV_IMM(0, 0), EXIT()));
    fact("map value of two", "%s",
         LOADED(INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_VALUE, 0, map), INSN(0, 0, 0, 0, 0), MOV_IMM(0, 0), EXIT()));
    fact("map by index, no array", "%s",
         LOADED(INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_IDX, 0, 0), INSN(0, 0, 0, 0, 0), MOV_IMM(0, 0), EXIT()));
    const struct bpf_insn by_index[] = {INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_IDX, 0, 1),
                                        INSN(0, 0, 0, 0, 0), MOV_IMM(0, 0), EXIT()};
    const int fds[] = {-1, map};
    union bpf_attr attributes = of(by_index, LENGTH_OF(by_index));
    attributes.fd_array = ADDRESS(fds);
    fact("map by index", "%s", loaded(attributes));
    attributes.fd_array = 8;
    fact("map by index, bad array", "%s", loaded(attributes));
    fact("unchecked value", "%s",
         LOADED(STORE_IMM(BPF_W, 10, -4, 1), MOV_REG(2, 10), ADD_IMM(2, -4), LOAD_MAP(1, map),
                CALL(BPF_FUNC_map_lookup_elem), LOAD(BPF_W, 0, 0, 0), EXIT()));
    int closed = looks_up(map);
    fact("looks up", "%s", made(closed));
    close(closed);
    close(map);
}

void programs(void)
{
    attributes();
    names();
    sizes();
    verifier();
    struct rlimit limit, none;
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit;
    none.rlim_cur = 3;
    setrlimit(RLIMIT_NOFILE, &none);
    fact("at the limit of descriptors", "%s", loaded(good()));
    fact("map at the limit of descriptors", "%s", made(map_of(BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0)));
    setrlimit(RLIMIT_NOFILE, &limit);
}

static const char *logged(const struct bpf_insn *insns, size_t count, unsigned level, char *buffer, unsigned size)
{
    static char unused[8];
    union bpf_attr attributes = of(insns, count);
    attributes.log_level = level;
    attributes.log_buf = ADDRESS(buffer);
    attributes.log_size = size;
    if (buffer && ADDRESS(buffer) > 4096)
        memset(buffer, '#', size);
    else
        buffer = unused;
    const char *answer = loaded(attributes);
    return text("%s, %s", answer, buffer[0] == '#' ? "untouched" : buffer[0] ? "something" : "empty");
}

void logs(void)
{
    static char buffer[1 << 16];
    const struct bpf_insn bad[] = {MOV_REG(0, 5), EXIT()};
    fact("good, level 0", "%s", logged(zero, 2, 0, NULL, 0));
    fact("good, level 1", "%s", logged(zero, 2, 1, buffer, sizeof buffer));
    fact("good, level 2", "%s", logged(zero, 2, 2, buffer, sizeof buffer));
    fact("good, small", "%s", logged(zero, 2, 1, buffer, 4));
    fact("good, one byte", "%s", logged(zero, 2, 1, buffer, 1));
    fact("bad, level 1", "%s", logged(bad, 2, 1, buffer, sizeof buffer));
    fact("bad, which names the register", "%d", strstr(buffer, "R5 !read_ok") != NULL);
    fact("bad, level 4", "%s", logged(bad, 2, 4, buffer, sizeof buffer));
    fact("bad, small", "%s", logged(bad, 2, 1, buffer, 8));
    fact("bad, which ends", "%zu", strnlen(buffer, 8));
    fact("bad, small, from the start", "%s", logged(bad, 2, 9, buffer, 8));
    fact("level without buffer", "%s", logged(zero, 2, 1, NULL, 0));
    fact("bad, level without buffer", "%s", logged(bad, 2, 1, NULL, 0));
    fact("buffer without level", "%s", logged(zero, 2, 0, buffer, 128));
    fact("buffer without size", "%s", logged(zero, 2, 1, buffer, 0));
    fact("size without buffer", "%s", logged(zero, 2, 1, NULL, 128));
    fact("unknown level", "%s", logged(zero, 2, 32, buffer, 128));
    fact("bad buffer", "%s", logged(bad, 2, 1, (char *)8, 4096));
    fact("bad buffer, good program", "%s", logged(zero, 2, 1, (char *)8, 4096));
}
