/*
 * ONC RPC over TCP (RFC 5531, section 11, record marking): a record is one or more fragments, each of them four bytes
 * in network byte order, of which the top bit marks the last fragment and the others are its length, and that many
 * bytes. A message is a whole record.
 *
 * The loop is unrolled, since the kernel takes loops only from those with privileges.
 */
#include "parser.h"

#define MAX_FRAGMENTS 32
#define LAST 0x80000000u

SEC("socket") int onc_rpc(struct __sk_buff *skb)
{
	unsigned int length = 0;

#pragma unroll
	for (int i = 0; i < MAX_FRAGMENTS; i++) {
		unsigned int mark = load_word(skb, length);
		unsigned int fragment = mark & ~LAST;

		if (fragment > MAX_LENGTH - 4 - length)
			return -EMSGSIZE;
		length += 4 + fragment;
		/* The next mark, or the next record, begins below 2 GiB. */
		if (length > MAX_LENGTH - 4)
			return -EMSGSIZE;
		if (mark & LAST)
			return length;
	}
	return -EMSGSIZE;
}

char _license[] SEC("license") = "GPL";
