/* What libbpf makes of an object file with maps, constants and a variable: libbpf OBJECT. */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fact(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void fact(const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("libbpf.%s: ", name);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

static const char *error(long result)
{
    static char texts[4][64];
    static int next;
    char *text = texts[next++ % 4];
    snprintf(text, sizeof texts[0], "%s", result < 0 ? strerrorname_np((int)-result) : "ok");
    return text;
}

static int warned(enum libbpf_print_level level, const char *format, va_list arguments)
{
    return level == LIBBPF_WARN ? vfprintf(stderr, format, arguments) : 0;
}

static void object(const char *path)
{
    struct bpf_object *object = bpf_object__open_file(path, NULL);
    struct bpf_program *program;
    struct bpf_map *map;
    if (!object) {
        fact("open", "%s", error(-errno));
        exit(1);
    }
    bpf_object__for_each_program(program, object)
        bpf_program__set_type(program, BPF_PROG_TYPE_SOCKET_FILTER);
    fact("load", "%s", error(bpf_object__load(object)));
    bpf_object__for_each_program(program, object) {
        struct bpf_prog_info info = {0};
        __u32 length = sizeof info;
        const char *told = error(bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &length));
        fact(bpf_program__name(program), "%s, type %u, name %s, maps %u", told, info.type, info.name, info.nr_map_ids);
    }
    bpf_object__for_each_map(map, object) {
        struct bpf_map_info info = {0};
        __u32 length = sizeof info, key = 0, next;
        char value[64] = "";
        int fd = bpf_map__fd(map);
        const char *told = error(bpf_obj_get_info_by_fd(fd, &info, &length));
        const char *looked = error(bpf_map_lookup_elem(fd, &key, value));
        const char *updated = error(bpf_map_update_elem(fd, &key, value, 0));
        fact(bpf_map__name(map), "%s, type %u, key %u, value %u, entries %u, look up %s %d, update %s, next key %s", told,
             info.type, info.key_size, info.value_size, info.max_entries, looked, value[0], updated,
             error(bpf_map_get_next_key(fd, NULL, &next)));
    }
    bpf_object__close(object);
}

int main(int argc, char **argv)
{
    const struct bpf_insn zero[] = {{.code = 0xb7}, {.code = 0x95}}, bad[] = {{.code = 0xbf, .src_reg = 3}, {.code = 0x95}};
    char log[1024] = "";
    LIBBPF_OPTS(bpf_prog_load_opts, options, .log_buf = log, .log_size = sizeof log, .log_level = 1);
    if (argc != 2)
        return 2;
    libbpf_set_print(warned);
    object(argv[1]);
    fact("a program by hand", "%s", error(bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, "by_hand", "GPL", zero, 2, NULL)));
    fact("a bad one", "%s", error(bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, "by_hand", "GPL", bad, 2, &options)));
    fact("its log", "%d", strstr(log, "R3 !read_ok") != NULL);
    fact("probe: socket filters", "%d", libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_SOCKET_FILTER, NULL));
    fact("probe: arrays", "%d", libbpf_probe_bpf_map_type(BPF_MAP_TYPE_ARRAY, NULL));
    fact("probe: hash maps", "%d", libbpf_probe_bpf_map_type(BPF_MAP_TYPE_HASH, NULL));
    fact("probe: skb_load_bytes", "%d",
         libbpf_probe_bpf_helper(BPF_PROG_TYPE_SOCKET_FILTER, BPF_FUNC_skb_load_bytes, NULL));
    fact("probe: map_lookup_elem", "%d",
         libbpf_probe_bpf_helper(BPF_PROG_TYPE_SOCKET_FILTER, BPF_FUNC_map_lookup_elem, NULL));
    return 0;
}
