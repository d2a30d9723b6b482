/* What descriptors of programs and maps are: information, duplicates, fork, exec. */
#include "facts.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

static long told(int fd, void *info, unsigned length)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.info.bpf_fd = (uint32_t)fd;
    attributes.info.info_len = length;
    attributes.info.info = ADDRESS(info);
    return bpf_call(BPF_OBJ_GET_INFO_BY_FD, &attributes, sizeof attributes) < 0 ? -1 : (long)attributes.info.info_len;
}

const char *program_said(int fd)
{
    struct bpf_prog_info info;
    memset(&info, 0, sizeof info);
    if (told(fd, &info, sizeof info) < 0)
        return result(-1);
    return text("type %u name \"%s\" maps %u gpl %d uid %d id %d", info.type, info.name, info.nr_map_ids,
                info.gpl_compatible, info.created_by_uid == getuid(), info.id != 0);
}

const char *map_said(int fd)
{
    struct bpf_map_info info;
    memset(&info, 0, sizeof info);
    if (told(fd, &info, sizeof info) < 0)
        return result(-1);
    return text("type %u name \"%s\" key %u value %u entries %u flags %x id %d", info.type, info.name, info.key_size,
                info.value_size, info.max_entries, info.map_flags, info.id != 0);
}

static int named_program(int map)
{
    const struct bpf_insn insns[] = {LOAD_MAP(1, map), MOV_IMM(0, 0), EXIT()};
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    attributes.insns = ADDRESS(insns);
    attributes.insn_cnt = LENGTH_OF(insns);
    attributes.license = ADDRESS("Dual MIT/GPL");
    strcpy(attributes.prog_name, "named.one");
    return bpf_call(BPF_PROG_LOAD, &attributes, sizeof attributes);
}

static int named_map(int type)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_type = (uint32_t)type;
    attributes.key_size = 4;
    attributes.value_size = 12;
    attributes.max_entries = 3;
    attributes.map_flags = BPF_F_RDONLY_PROG;
    strcpy(attributes.map_name, "a_map");
    return bpf_call(BPF_MAP_CREATE, &attributes, sizeof attributes);
}

static const char *pinned(int fd)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.pathname = ADDRESS("/dev/null/x");
    attributes.bpf_fd = (uint32_t)fd;
    return result(bpf_call(BPF_OBJ_PIN, &attributes, sizeof attributes));
}

void information(void)
{
    int map = named_map(BPF_MAP_TYPE_ARRAY), table = named_map(BPF_MAP_TYPE_HASH), program = named_program(map);
    fact("array", "%s", map_said(map));
    fact("hash", "%s", map_said(table));
    fact("program", "%s", program_said(program));
    fact("input", "%s", program_said(0));
    fact("no descriptor", "%s", program_said(-1));
    static char page[8192];
    memset(page, 0, sizeof page);
    fact("map, 8 bytes", "%ld", told(map, page, 8));
    fact("map, no bytes", "%ld", told(map, page, 0));
    fact("map, a page, length not greater", "%d", told(map, page, 4096) < 4096);
    fact("map, more than a page", "%s", result(told(map, page, 4097)));
    page[4000] = 1;
    fact("map, not zero behind", "%s", result(told(map, page, 4096)));
    fact("program, not zero behind", "%s", result(told(program, page, 4096)));
    fact("map, bad pointer", "%s", result(told(map, (void *)8, 80)));
    fact("program, bad pointer", "%s", result(told(program, (void *)8, 80)));
    struct bpf_prog_info info;
    struct bpf_map_info map_info;
    uint32_t ids[4] = {0};
    memset(&info, 0, sizeof info);
    memset(&map_info, 0, sizeof map_info);
    told(map, &map_info, sizeof map_info);
    info.nr_map_ids = LENGTH_OF(ids);
    info.map_ids = ADDRESS(ids);
    told(program, &info, sizeof info);
    fact("the program's map", "%u %d", info.nr_map_ids, ids[0] == map_info.id && ids[1] == 0);
    memset(&info, 0, sizeof info);
    info.nr_map_ids = 1;
    info.map_ids = 8;
    fact("map numbers at a bad pointer", "%s", result(told(program, &info, sizeof info)));
    fact("pin to nowhere", "input %s", pinned(0));
    close(map), close(table), close(program);
}

/* One more value in the map, as this process sees it, and whether the program is still one. */
static void used(const char *what, int map, int program)
{
    uint32_t key = 1, value = 0;
    const char *got = element(BPF_MAP_LOOKUP_ELEM, map, &key, &value, 0);
    fact(what, "look up %s %u, update %s, program %s", got, value, element(BPF_MAP_UPDATE_ELEM, map, &key, &value, 0),
         program_said(program));
}

void executed(int map, int program)
{
    uint32_t key = 1, value = 0;
    fact("what it held", "%s %u", element(BPF_MAP_LOOKUP_ELEM, map, &key, &value, 0), value);
    key = 2, value = 22;
    int another = looks_up(map);
    fact("program", "%s", program_said(program));
    fact("map", "%s", map_said(map));
    fact("update", "%s", element(BPF_MAP_UPDATE_ELEM, map, &key, &value, 0));
    value = 0;
    fact("look up", "%s %u", element(BPF_MAP_LOOKUP_ELEM, map, &key, &value, 0), value);
    fact("another program of the map", "%s", made(another));
}

static int through_a_socket(int fd)
{
    int ends[2], got = -1;
    char byte = 'x', room[CMSG_SPACE(sizeof fd)] = "";
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 || sendmsg(ends[0], &message, 0) != 1)
        die("sending a descriptor");
    if (recvmsg(ends[1], &message, 0) != 1)
        die("receiving a descriptor");
    memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof got);
    close(ends[0]), close(ends[1]);
    return got;
}

/* Maps that are closed again take no memory, and those that stay are not forgotten over them. */
static void many(void)
{
    const struct rlimit gigabyte = {1 << 30, 1 << 30};
    uint32_t key = 0, value = 5;
    int kept = map_of(BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0), failed = 0;
    element(BPF_MAP_UPDATE_ELEM, kept, &key, &value, 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_AS, &gigabyte);
        for (int i = 0; i < 300; i++) {
            int map = map_of(BPF_MAP_TYPE_ARRAY, 4, i % 3 ? 64 : 15 << 20, 1, 0);
            failed += map < 0 || close(map) < 0;
        }
        value = 0;
        const char *looked = element(BPF_MAP_LOOKUP_ELEM, kept, &key, &value, 0);
        fact("three hundred maps", "%d failed, before them %s %u", failed, looked, value);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    close(kept);
}

static void *walk_for_ever(void *map)
{
    union bpf_attr attributes;
    uint32_t key;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_fd = *(uint32_t *)map;
    attributes.next_key = ADDRESS(&key);
    for (;;)
        bpf_call(BPF_MAP_GET_NEXT_KEY, &attributes, 24);
    return NULL;
}

/* What a thread does to maps at that moment keeps no child from using them. */
static int forks_of_a_busy_process(int map)
{
    enum { forks = 300 };
    int failed = 0;
    fflush(stdout);
    pid_t busy = fork();
    if (busy == 0) {
        pthread_t threads[3];
        for (size_t i = 0; i < LENGTH_OF(threads); i++)
            pthread_create(&threads[i], NULL, walk_for_ever, &map);
        for (int i = 0; i < forks; i++) {
            int status = -1;
            pid_t child = fork();
            if (child == 0) {
                uint32_t key = 1, value;
                alarm(2);
                int unusual = strcmp(element(BPF_MAP_UPDATE_ELEM, map, &key, &key, 0), "0") != 0 ||
                              strcmp(element(BPF_MAP_LOOKUP_ELEM, map, &key, &value, 0), "0") != 0;
                _exit(unusual || looks_up(map) < 0);
            }
            waitpid(child, &status, 0);
            failed += status != 0;
        }
        _exit(failed);
    }
    waitpid(busy, &failed, 0);
    return WEXITSTATUS(failed);
}

void descriptors(void)
{
    uint32_t key = 1, other = 3, value = 7;
    int map = map_of(BPF_MAP_TYPE_HASH, 4, 4, 8, 0), program = looks_up(map);
    element(BPF_MAP_UPDATE_ELEM, map, &key, &value, 0);
    used("as made", map, program);
    int map_twin = dup(map), program_twin = fcntl(program, F_DUPFD_CLOEXEC, 100);
    used("duplicates", map_twin, program_twin);
    close(map), close(program);
    used("the originals closed", map_twin, program_twin);
    used("through a socket", through_a_socket(map_twin), through_a_socket(program_twin));
    fact("other programs of the duplicate", "%s", made(looks_up(map_twin)));
    fflush(stdout);
    if (fork() == 0) {
        used("in a child", map_twin, program_twin);
        element(BPF_MAP_UPDATE_ELEM, map_twin, &other, &value, 0);
        _exit(0);
    }
    wait(NULL);
    fact("what the child stored", "%s", element(BPF_MAP_LOOKUP_ELEM, map_twin, &other, &value, 0));
    used("in its parent", map_twin, program_twin);
    fflush(stdout);
    if (fork() == 0) {
        fcntl(map_twin, F_SETFD, 0), fcntl(program_twin, F_SETFD, 0);
        execl("/proc/self/exe", program_path, "--executed", text("%d", map_twin), text("%d", program_twin), NULL);
        _exit(1);
    }
    wait(NULL);
    many();
    used("after many", map_twin, program_twin);
    fact("forks of a busy process", "%d failed", forks_of_a_busy_process(map_twin));
}
