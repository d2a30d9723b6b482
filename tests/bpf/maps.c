/* BPF_MAP_CREATE, and the element commands with all that they refuse. */
#include "facts.h"

enum { array = BPF_MAP_TYPE_ARRAY, hash = BPF_MAP_TYPE_HASH };

static const char *made_of(int type, int key_size, int value_size, int entries, unsigned flags)
{
    int fd = map_of(type, key_size, value_size, entries, flags);
    const char *answer = made(fd);
    if (fd >= 0)
        close(fd);
    return answer;
}

/* An array with one attribute set to something else. */
#define WITH(member, value)                                                                                            \
    ({                                                                                                                 \
        union bpf_attr attributes_;                                                                                    \
        memset(&attributes_, 0, sizeof attributes_);                                                                   \
        attributes_.map_type = array;                                                                                  \
        attributes_.key_size = attributes_.value_size = attributes_.max_entries = 4;                                   \
        attributes_.member = (value);                                                                                  \
        made(bpf_call(BPF_MAP_CREATE, &attributes_, sizeof attributes_));                                              \
    })

void maps(void)
{
    static const struct {
        const char *name;
        unsigned flags;
    } flags[] = {{"NO_PREALLOC", BPF_F_NO_PREALLOC}, {"NO_COMMON_LRU", BPF_F_NO_COMMON_LRU},
                 {"RDONLY", BPF_F_RDONLY},           {"WRONLY", BPF_F_WRONLY},
                 {"both", BPF_F_RDONLY | BPF_F_WRONLY}, {"RDONLY_PROG", BPF_F_RDONLY_PROG},
                 {"STACK_BUILD_ID", BPF_F_STACK_BUILD_ID}, {"CLONE", BPF_F_CLONE},
                 {"NUMA_NODE", BPF_F_NUMA_NODE},     {"unknown", 1u << 31}};
    for (int type = hash; type <= array; type++) {
        const char *kind = type == array ? "array" : "hash";
        fact(text("%s", kind), "%s", made_of(type, 4, 8, 2, 0));
        fact(text("%s, no key", kind), "%s", made_of(type, 0, 8, 2, 0));
        fact(text("%s, key of 8", kind), "%s", made_of(type, 8, 8, 2, 0));
        fact(text("%s, no value", kind), "%s", made_of(type, 4, 0, 2, 0));
        fact(text("%s, no entries", kind), "%s", made_of(type, 4, 8, 0, 0));
        fact(text("%s, value of 17 MiB", kind), "%s", made_of(type, 4, 17 << 20, 1, 0));
        for (size_t i = 0; i < LENGTH_OF(flags); i++)
            fact(text("%s, %s", kind, flags[i].name), "%s", made_of(type, 4, 8, 2, flags[i].flags));
    }
    fact("close-on-exec", "%d", fcntl(map_of(array, 4, 8, 2, 0), F_GETFD));
    fact("type 9999", "%s", made_of(9999, 4, 8, 2, 0));
    fact("name", "%s", WITH(map_name[0], 'x'));
    fact("bad name", "%s", WITH(map_name[0], '-'));
    fact("extra", "%s", WITH(map_extra, 1));
    fact("interface", "%s", WITH(map_ifindex, 9999));
    fact("value type", "%s", WITH(btf_value_type_id, 1));
    fact("key type alone", "%s", WITH(btf_key_type_id, 1));
    fact("kernel's type", "%s", WITH(btf_vmlinux_value_type_id, 1));
    fact("inner map", "%s", WITH(inner_map_fd, 99));
    fact("at null", "%s", result(bpf_call(BPF_MAP_CREATE, NULL, 72)));
    fact("at a bad pointer", "%s", result(bpf_call(BPF_MAP_CREATE, (void *)8, 72)));
    struct {
        union bpf_attr attributes;
        char more[512];
    } longer;
    memset(&longer, 0, sizeof longer);
    longer.attributes.map_type = array;
    longer.attributes.key_size = longer.attributes.value_size = longer.attributes.max_entries = 4;
    fact("size 16", "%s", made(bpf_call(BPF_MAP_CREATE, &longer.attributes, 16)));
    fact("size 12", "%s", made(bpf_call(BPF_MAP_CREATE, &longer.attributes, 12)));
    fact("longer", "%s", made(bpf_call(BPF_MAP_CREATE, &longer.attributes, sizeof longer)));
    longer.more[500] = 1;
    fact("longer, not zero", "%s", made(bpf_call(BPF_MAP_CREATE, &longer.attributes, sizeof longer)));
    memset(&longer, 0, sizeof longer);
    longer.attributes.map_type = array;
    longer.attributes.key_size = longer.attributes.value_size = longer.attributes.max_entries = 4;
    longer.attributes.core_relo_rec_size = 1;
    fact("set behind the last member", "%s", made(bpf_call(BPF_MAP_CREATE, &longer.attributes, 140)));
}

static void both_kinds(int type)
{
    const char *kind = type == array ? "array" : "hash";
    int map = map_of(type, 4, 5, 2, 0);
    uint32_t keys[] = {0, 1, 2, 3}, next;
    char value[8] = "";
#define F(name, ...) fact(text("%s, %s", kind, name), __VA_ARGS__)
    F("look up the first", "%s", element(BPF_MAP_LOOKUP_ELEM, map, &keys[0], value, 0));
    F("first key", "%s", element(BPF_MAP_GET_NEXT_KEY, map, NULL, &next, 0));
    F("update", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[0], "hello", BPF_ANY));
    F("look up", "%s %s", element(BPF_MAP_LOOKUP_ELEM, map, &keys[0], value, 0), value);
    F("update, NOEXIST", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[0], "HELLO", BPF_NOEXIST));
    F("update, EXIST", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[0], "again", BPF_EXIST));
    F("another, EXIST", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[1], "world", BPF_EXIST));
    F("another, NOEXIST", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[1], "world", BPF_NOEXIST));
    F("another", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[1], "world", BPF_ANY));
    F("one too many", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[2], "extra", BPF_ANY));
    F("flags 3", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[0], "flags", 3));
    F("flags 1 << 40", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[0], "flags", 1ull << 40));
    F("update, LOCK", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[0], "flags", BPF_F_LOCK));
    F("look up, LOCK", "%s", element(BPF_MAP_LOOKUP_ELEM, map, &keys[0], value, BPF_F_LOCK));
    F("look up, flags 1", "%s", element(BPF_MAP_LOOKUP_ELEM, map, &keys[0], value, 1));
    F("look up, no such", "%s", element(BPF_MAP_LOOKUP_ELEM, map, &keys[3], value, 0));
    F("look up, key at null", "%s", element(BPF_MAP_LOOKUP_ELEM, map, NULL, value, 0));
    F("look up, key at a bad pointer", "%s", element(BPF_MAP_LOOKUP_ELEM, map, (void *)8, value, 0));
    F("look up, value at a bad pointer", "%s", element(BPF_MAP_LOOKUP_ELEM, map, &keys[0], (void *)8, 0));
    F("no such, value at a bad pointer", "%s", element(BPF_MAP_LOOKUP_ELEM, map, &keys[3], (void *)8, 0));
    F("update, bad key", "%s", element(BPF_MAP_UPDATE_ELEM, map, (void *)8, "value", 0));
    F("update, bad value", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[0], (void *)8, 0));
    F("update, bad value and flags", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[0], (void *)8, 3));
    char *page = last_page();
    F("key beyond a page's end", "%s", element(BPF_MAP_LOOKUP_ELEM, map, page + 4093, value, 0));
    F("value beyond a page's end", "%s", element(BPF_MAP_LOOKUP_ELEM, map, &keys[0], page + 4092, 0));
    F("value up to a page's end", "%s", element(BPF_MAP_LOOKUP_ELEM, map, &keys[0], page + 4091, 0));
    int seen = 0;
    uint32_t *last = NULL;
    for (; seen < 9 && !strcmp(element(BPF_MAP_GET_NEXT_KEY, map, last, &next, 0), "0"); seen++, last = &next)
        ;
    F("keys", "%d", seen);
    F("next key at a bad pointer", "%s", element(BPF_MAP_GET_NEXT_KEY, map, NULL, (void *)8, 0));
    F("next key after a bad pointer", "%s", element(BPF_MAP_GET_NEXT_KEY, map, (void *)8, &next, 0));
    F("next key after none", "%s", element(BPF_MAP_GET_NEXT_KEY, map, &keys[3], &next, 0));
    F("next key, flags", "%s", element(BPF_MAP_GET_NEXT_KEY, map, NULL, &next, 1));
    F("delete, value set", "%s", element(BPF_MAP_DELETE_ELEM, map, &keys[0], value, 0));
    F("delete, bad key", "%s", element(BPF_MAP_DELETE_ELEM, map, (void *)8, NULL, 0));
    F("delete", "%s", element(BPF_MAP_DELETE_ELEM, map, &keys[0], NULL, 0));
    F("delete again", "%s", element(BPF_MAP_DELETE_ELEM, map, &keys[0], NULL, 0));
    F("look up and delete", "%s %s", element(BPF_MAP_LOOKUP_AND_DELETE_ELEM, map, &keys[1], value, 0), value);
    F("look up and delete again", "%s", element(BPF_MAP_LOOKUP_AND_DELETE_ELEM, map, &keys[1], value, 0));
    F("look up and delete, flags", "%s", element(BPF_MAP_LOOKUP_AND_DELETE_ELEM, map, &keys[1], value, 1));
    F("look up and delete, LOCK", "%s", element(BPF_MAP_LOOKUP_AND_DELETE_ELEM, map, &keys[1], value, BPF_F_LOCK));
    F("freeze, key set", "%s", element(BPF_MAP_FREEZE, map, &keys[0], NULL, 0));
    F("freeze", "%s", element(BPF_MAP_FREEZE, map, NULL, NULL, 0));
    F("freeze again", "%s", element(BPF_MAP_FREEZE, map, NULL, NULL, 0));
    F("frozen, update", "%s", element(BPF_MAP_UPDATE_ELEM, map, &keys[0], "later", 0));
    F("frozen, update, bad key", "%s", element(BPF_MAP_UPDATE_ELEM, map, NULL, "later", 0));
    F("frozen, delete", "%s", element(BPF_MAP_DELETE_ELEM, map, &keys[0], NULL, 0));
    F("frozen, next key", "%s", element(BPF_MAP_GET_NEXT_KEY, map, &keys[3], &next, 0));
    close(map);
    F("closed, look up", "%s", element(BPF_MAP_LOOKUP_ELEM, map, &keys[0], value, 0));
    int reading = map_of(type, 4, 5, 2, BPF_F_RDONLY), writing = map_of(type, 4, 5, 2, BPF_F_WRONLY);
    F("read-only, update", "%s", element(BPF_MAP_UPDATE_ELEM, reading, &keys[0], "value", 0));
    F("read-only, look up", "%s", element(BPF_MAP_LOOKUP_ELEM, reading, &keys[3], value, 0));
    F("read-only, freeze", "%s", element(BPF_MAP_FREEZE, reading, NULL, NULL, 0));
    F("write-only, look up", "%s", element(BPF_MAP_LOOKUP_ELEM, writing, &keys[0], value, 0));
    F("write-only, next key", "%s", element(BPF_MAP_GET_NEXT_KEY, writing, NULL, &next, 0));
    F("write-only, update", "%s", element(BPF_MAP_UPDATE_ELEM, writing, &keys[0], "value", 0));
    close(reading), close(writing);
}

void elements(void)
{
    uint32_t key = 0, value;
    both_kinds(array);
    both_kinds(hash);
    static const int commands[] = {BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY,
                                   BPF_MAP_FREEZE};
    const struct bpf_insn zero[] = {MOV_IMM(0, 0), EXIT()};
    int program = load(BPF_PROG_TYPE_SOCKET_FILTER, zero, 2);
    for (size_t i = 0; i < LENGTH_OF(commands); i++) {
        int freeze = commands[i] == BPF_MAP_FREEZE;
        void *at = freeze ? NULL : &key, *to = freeze || commands[i] == BPF_MAP_DELETE_ELEM ? NULL : (void *)&value;
        fact(text("command %d of no map", commands[i]), "-1 %s, closed %s, input %s, program %s",
             element(commands[i], -1, at, to, 0), element(commands[i], 998, at, to, 0), element(commands[i], 0, at, to, 0),
             element(commands[i], program, at, to, 0));
    }
    fact("at null", "%s", result(bpf_call(BPF_MAP_LOOKUP_ELEM, NULL, 32)));
    fact("size 0", "%s", result(bpf_call(BPF_MAP_LOOKUP_ELEM, (void *)8, 0)));
}
