/*
 * Framed Thrift (thrift/doc/specs/thrift-rpc.md, "Framed vs. unframed transport"): four bytes of length in network
 * byte order, without themselves. An unframed message begins with a set top bit.
 */
#include "parser.h"

SEC("socket") int thrift(struct __sk_buff *skb)
{
	unsigned int length = load_word(skb, 0);

	if (length > MAX_LENGTH)
		return -EPROTO;
	if (length > MAX_LENGTH - 4)
		return -EMSGSIZE;
	return length + 4;
}

char _license[] SEC("license") = "GPL";
