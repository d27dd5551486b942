/* Super-packets split into packets, and neighbouring packets of a TCP flow joined to super-packets, a burst at a time.
 *
 * The specification is in Python: `segment` of wire/vnet.py and wire/rejoin.py; both give the same bytes.
 * cffi does not see lines that begin with #.
 */
#include <stddef.h>
#include <stdint.h>

/* Splits a super-packet without vnet header whose headers end at `header_bytes`, its network header at `l3`, its TCP
 * or UDP header at `l4`. `out` takes `header_bytes` more for each packet but the first; the packets lie end to end.
 * The caller has checked that the headers lie inside the packet and that its IP length is true. */
void segments_split(uint8_t *out, const uint8_t *packet, size_t packet_bytes, size_t header_bytes, size_t l3, size_t l4,
                    int is_tcp, size_t gso_bytes);

/* Turns `count` packets that lie end to end into TUN frames, joined where they can be; `l2_bytes` come before each IP
 * header. `out` takes 10 bytes more for each packet; the frames lie end to end, their lengths are in `frame_bytes`,
 * which has `count` places. Returns how many frames there are. */
size_t segments_rejoin(uint8_t *out, uint32_t *frame_bytes, const uint8_t *packets, const uint32_t *packet_bytes,
                       size_t count, size_t l2_bytes);
