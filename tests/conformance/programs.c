/* eBPF programs, assembled here so that no compiler for them is needed. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int bpf_call(int command, union bpf_attr *attributes, size_t size)
{
    return (int)syscall(SYS_bpf, command, attributes, size);
}

int load(int program_type, const struct bpf_insn *insns, size_t count)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = (uint32_t)program_type;
    attributes.insns = (uint64_t)(uintptr_t)insns;
    attributes.insn_cnt = (uint32_t)count;
    attributes.license = (uint64_t)(uintptr_t) "GPL";
    return bpf_call(BPF_PROG_LOAD, &attributes, sizeof attributes);
}

int array_map(int value_size, int entries)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_type = BPF_MAP_TYPE_ARRAY;
    attributes.key_size = 4;
    attributes.value_size = (uint32_t)value_size;
    attributes.max_entries = (uint32_t)entries;
    return bpf_call(BPF_MAP_CREATE, &attributes, sizeof attributes);
}

static int loaded(const struct bpf_insn *insns, size_t count)
{
    int fd = load(BPF_PROG_TYPE_SOCKET_FILTER, insns, count);
    if (fd < 0)
        die("loading a parser");
    return fd;
}

int parser_be32(void)
{
    const struct bpf_insn insns[] = {MOV_REG(6, 1), LOAD_ABS(BPF_W, 0), ADD_IMM(0, 4), EXIT()};
    return loaded(insns, LENGTH_OF(insns));
}

int parser_constant(int value)
{
    const struct bpf_insn insns[] = {MOV_IMM(0, value), EXIT()};
    return loaded(insns, LENGTH_OF(insns));
}

int parser_verbatim(void)
{
    const struct bpf_insn insns[] = {MOV_REG(6, 1), LOAD_ABS(BPF_W, 0), EXIT()};
    return loaded(insns, LENGTH_OF(insns));
}
