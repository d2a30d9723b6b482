/* Prints the facts. Run as `facts --executed MAP PROGRAM`, only those of a program that exec gave descriptors to. */
#include "facts.h"

#include <stdarg.h>

char *program_path;
static const char *group;

void print_fact(const char *name, const char *format, ...)
{
    char value[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    printf("%s.%s: %s\n", group, name, value);
    fflush(stdout);
}

char *last_page(void)
{
    char *start = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED || munmap(start + 4096, 4096) < 0)
        die("a page");
    return start;
}

int map_of(int type, int key_size, int value_size, int entries, unsigned flags)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_type = (uint32_t)type;
    attributes.key_size = (uint32_t)key_size;
    attributes.value_size = (uint32_t)value_size;
    attributes.max_entries = (uint32_t)entries;
    attributes.map_flags = flags;
    return bpf_call(BPF_MAP_CREATE, &attributes, sizeof attributes);
}

const char *element(int command, int map, const void *key, const void *value, uint64_t flags)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_fd = (uint32_t)map;
    attributes.key = ADDRESS(key);
    attributes.value = ADDRESS(value);
    attributes.flags = flags;
    return result(bpf_call(command, &attributes, sizeof attributes));
}

int looks_up(int map)
{
    const struct bpf_insn insns[] = {STORE_IMM(BPF_W, 10, -4, 1),
                                     MOV_REG(2, 10),
                                     ADD_IMM(2, -4),
                                     LOAD_MAP(1, map),
                                     CALL(BPF_FUNC_map_lookup_elem),
                                     JUMP_IMM(BPF_JNE, 0, 0, 1),
                                     EXIT(),
                                     LOAD(BPF_W, 0, 0, 0),
                                     EXIT()};
    return load(BPF_PROG_TYPE_SOCKET_FILTER, insns, LENGTH_OF(insns));
}

int main(int argc, char **argv)
{
    program_path = argv[0];
    if (argc == 4 && !strcmp(argv[1], "--executed")) {
        group = "executed";
        executed(atoi(argv[2]), atoi(argv[3]));
        return 0;
    }
    static const struct {
        const char *name;
        void (*run)(void);
    } groups[] = {{"programs", programs},       {"logs", logs},
                  {"maps", maps},               {"elements", elements},
                  {"information", information}, {"descriptors", descriptors}};
    for (size_t i = 0; i < LENGTH_OF(groups); i++) {
        group = groups[i].name;
        groups[i].run();
    }
    return 0;
}
