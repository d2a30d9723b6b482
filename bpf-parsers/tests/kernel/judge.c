/*
 * Asks the running kernel: loads programs as socket filters and runs them with BPF_PROG_TEST_RUN.
 *
 * Requests come on standard input and answers go to standard output, all numbers little-endian and 32 bits wide.
 *   request: number of maps; for each: type, key size, value size, entries
 *            number of instructions; eight bytes each. In a wide load of a map, imm is the map's number.
 *            number of packets; for each: mark, priority, length, bytes (link header first)
 *            number of keys to look up afterwards, in each map: the keys 0, 1, ...
 *   answer:  errno of the load, or 0; length of the verifier's log, and the log
 *            if loaded, for each packet: errno of the run, or 0, and the return value;
 *            for each map and key: 1 and the value, or 0
 */
#include <errno.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_MAPS 8
#define WIDE_LOAD (BPF_LD | BPF_IMM | BPF_DW)

static char log_text[1 << 20];

static long bpf(int command, union bpf_attr *attr) { return syscall(SYS_bpf, command, attr, sizeof *attr); }

static void get(void *to, size_t len)
{
	if (len && fread(to, len, 1, stdin) != 1)
		exit(0);
}

static uint32_t number(void)
{
	uint32_t value;
	get(&value, sizeof value);
	return value;
}

static void *bytes(size_t len)
{
	void *data = malloc(len ? len : 1);
	if (!data)
		exit(1);
	get(data, len);
	return data;
}

static void put(const void *from, size_t len) { fwrite(from, 1, len, stdout); }
static void answer(uint32_t value) { put(&value, sizeof value); }

struct map { int fd; uint32_t value_size; };

static struct map make_map(void)
{
	union bpf_attr attr = { 0 };
	attr.map_type = number();
	attr.key_size = number();
	attr.value_size = number();
	attr.max_entries = number();
	return (struct map){ (int)bpf(BPF_MAP_CREATE, &attr), attr.value_size };
}

static int load(struct bpf_insn *insns, uint32_t count)
{
	union bpf_attr attr = { 0 };
	attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	attr.insns = (uintptr_t)insns;
	attr.insn_cnt = count;
	attr.license = (uintptr_t)"GPL";
	int fd = (int)bpf(BPF_PROG_LOAD, &attr);
	log_text[0] = 0;
	int error = errno;
	if (fd < 0 && error != EPERM) {
		attr.log_buf = (uintptr_t)log_text;
		attr.log_size = sizeof log_text;
		attr.log_level = 1;
		fd = (int)bpf(BPF_PROG_LOAD, &attr);
		error = errno;
	}
	size_t length = fd < 0 ? strlen(log_text) : 0;
	answer(fd < 0 ? error : 0);
	answer(length);
	put(log_text, length);
	return fd;
}

static void run(int program)
{
	struct __sk_buff context = { 0 };
	context.mark = number();
	context.priority = number();
	uint32_t length = number();
	void *packet = bytes(length);
	if (program >= 0) {
		union bpf_attr attr = { 0 };
		attr.test.prog_fd = program;
		attr.test.data_in = (uintptr_t)packet;
		attr.test.data_size_in = length;
		attr.test.ctx_in = (uintptr_t)&context;
		attr.test.ctx_size_in = sizeof context;
		long error = bpf(BPF_PROG_TEST_RUN, &attr);
		answer(error ? errno : 0);
		answer(attr.test.retval);
	}
	free(packet);
}

static void dump(struct map map, uint32_t key)
{
	char *value = malloc(map.value_size);
	union bpf_attr attr = { 0 };
	attr.map_fd = map.fd;
	attr.key = (uintptr_t)&key;
	attr.value = (uintptr_t)value;
	int found = value && !bpf(BPF_MAP_LOOKUP_ELEM, &attr);
	answer(found);
	if (found)
		put(value, map.value_size);
	free(value);
}

int main(void)
{
	for (;;) {
		struct map maps[MAX_MAPS];
		uint32_t map_count = number();
		if (map_count > MAX_MAPS)
			return 1;
		for (uint32_t i = 0; i < map_count; i++)
			maps[i] = make_map();
		uint32_t count = number();
		struct bpf_insn *insns = bytes(count * sizeof *insns);
		for (uint32_t i = 0; i < count; i++)
			if (insns[i].code == WIDE_LOAD && insns[i].src_reg && (uint32_t)insns[i].imm < map_count)
				insns[i].imm = maps[insns[i].imm].fd;
		int program = load(insns, count);
		free(insns);
		uint32_t packets = number();
		for (uint32_t i = 0; i < packets; i++)
			run(program);
		uint32_t keys = number();
		for (uint32_t i = 0; program >= 0 && i < map_count; i++)
			for (uint32_t key = 0; key < keys; key++)
				dump(maps[i], key);
		for (uint32_t i = 0; i < map_count; i++)
			close(maps[i].fd);
		if (program >= 0)
			close(program);
		fflush(stdout);
	}
}
