/* A parser that counts its calls in an array, remembers lengths in a hash map, and keeps constants and a variable. */
#include "../../programs/parser.h"

#define uint(name, value) int (*name)[value]

struct {
	uint(type, 2);
	uint(max_entries, 2);
	unsigned int *key;
	unsigned long long *value;
} calls SEC(".maps");

struct {
	uint(type, 1);
	uint(max_entries, 4);
	unsigned int *key;
	unsigned int *value;
} lengths SEC(".maps");

static void *(*map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*map_update_elem)(void *map, const void *key, const void *value, unsigned long long flags) = (void *)2;

const volatile unsigned int header = 4;
volatile unsigned int last;

static __attribute__((noinline)) int total(unsigned int length) { return length + header; }

SEC("socket_kcm") int count(struct __sk_buff *skb)
{
	unsigned int length = load_word(skb, 0), zero = 0;
	unsigned long long *called = map_lookup_elem(&calls, &zero);

	if (called)
		__sync_fetch_and_add(called, 1);
	map_update_elem(&lengths, &length, &length, 0);
	last = length;
	return total(length);
}

SEC("other/one") int first_byte(struct __sk_buff *skb) { return load_byte(skb, 0); }

char _license[] SEC("license") = "GPL";
