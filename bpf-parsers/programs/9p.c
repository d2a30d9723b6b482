/*
 * 9P (intro(5) of Plan 9): four bytes of length, least significant first, themselves included, then a byte of type
 * and two of tag.
 */
#include "parser.h"

SEC("socket") int p9(struct __sk_buff *skb)
{
	unsigned int length = __builtin_bswap32(load_word(skb, 0));

	if (length < 4 + 1 + 2)
		return -EPROTO;
	if (length > MAX_LENGTH)
		return -EMSGSIZE;
	return length;
}

char _license[] SEC("license") = "GPL";
