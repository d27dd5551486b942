/* Fuzz the splitting and joining of super-packets under sanitizers: fuzz_segments SEED ROUNDS.
 *
 * Every buffer is allocated with exactly the size the contract names. Invariants: what a super-packet is split into is
 * joined to the same payload again; joining neither adds nor loses a byte of payload, whatever the packets are.
 */
#include "segments.h"

#include <string.h>

#include "fuzz.h"

enum { VNET = 10, TCP = 32, UDP = 8 };

static size_t l2, l3_bytes, l4_bytes, header_bytes;
static int is_tcp;

/* Returns a super-packet of `payload` bytes whose checksum field holds the sum of its pseudo header, as the kernel's. */
static uint8_t *super_packet(size_t payload)
{
    const int is_ipv4 = (int)below(2);
    is_tcp = (int)below(4) != 0;
    l2 = below(2) * 14;
    l3_bytes = is_ipv4 ? 20 : 40;
    l4_bytes = is_tcp ? TCP : UDP;
    header_bytes = l2 + l3_bytes + l4_bytes;
    uint8_t *packet = noise(header_bytes + payload), *ip = packet + l2, *l4 = ip + l3_bytes;
    const size_t ip_bytes = l3_bytes + l4_bytes + payload, l4_total = l4_bytes + payload;
    uint32_t sum = (uint32_t)l4_total + (is_tcp ? 6 : 17);
    if (l2) {
        packet[12] = is_ipv4 ? 0x08 : 0x86;
        packet[13] = is_ipv4 ? 0x00 : 0xDD;
    }
    if (is_ipv4) {
        ip[0] = 0x45;
        ip[2] = (uint8_t)(ip_bytes >> 8), ip[3] = (uint8_t)ip_bytes;
        ip[6] = 0x40, ip[7] = 0;
        ip[9] = is_tcp ? 6 : 17;
    } else {
        ip[0] = 0x60;
        ip[4] = (uint8_t)((ip_bytes - 40) >> 8), ip[5] = (uint8_t)(ip_bytes - 40);
        ip[6] = is_tcp ? 6 : 17;
    }
    const size_t first = is_ipv4 ? 12 : 8, last = is_ipv4 ? 20 : 40;
    for (size_t i = first; i < last; i += 2)
        sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
    while (sum >> 16)
        sum = (sum & 0xFFFF) + (sum >> 16);
    if (is_tcp)
        l4[12] = 0x80, l4[13] = (uint8_t)(0x10 | (below(2) ? 0x08 : 0));
    uint8_t *field = l4 + (is_tcp ? 16 : 6);
    field[0] = (uint8_t)(sum >> 8), field[1] = (uint8_t)sum;
    return packet;
}

/* Joins; returns how many frames there are, and checks what must hold of any input. */
static size_t rejoin(const uint8_t *packets, const uint32_t *packet_bytes, size_t count, size_t total, uint8_t **joined)
{
    uint8_t *out = malloc(total + VNET * count + 1);
    uint32_t *frame_bytes = malloc((count + 1) * sizeof *frame_bytes);
    const size_t frames = segments_rejoin(out, frame_bytes, packets, packet_bytes, count, l2);
    size_t written = 0;
    REQUIRE(frames <= count && (frames > 0 || count == 0));
    for (size_t i = 0; i < frames; i++)
        written += frame_bytes[i];
    REQUIRE(written <= total + VNET * count);
    free(frame_bytes);
    *joined = out;
    return frames;
}

static void round_trip(void)
{
    const size_t gso = 1 + below(1500), payload = 1 + below(gso * (1 + below(20)));
    uint8_t *packet = super_packet(payload), *joined;
    const size_t count = (payload + gso - 1) / gso, total = payload + header_bytes * count;
    uint8_t *split = malloc(total);
    uint32_t *sizes = malloc(count * sizeof *sizes);
    segments_split(split, packet, header_bytes + payload, header_bytes, l2, l2 + l3_bytes, is_tcp, gso);
    for (size_t i = 0; i < count; i++)
        sizes[i] = (uint32_t)(header_bytes + (i + 1 < count ? gso : payload - gso * (count - 1)));
    const size_t frames = rejoin(split, sizes, count, total, &joined);
    if (is_tcp && count > 1) {
        REQUIRE(frames == 1);
        REQUIRE(memcmp(joined + VNET + header_bytes, packet + header_bytes, payload) == 0);
    }
    free(joined);
    for (size_t changes = 1 + below(4); changes > 0; changes--) /* and now with a byte that is wrong */
        split[below(total)] ^= (uint8_t)(1 + below(255));
    rejoin(split, sizes, count, total, &joined);
    free(joined);
    free(sizes);
    free(split);
    free(packet);
}

static void noise_round(void)
{
    const size_t count = 1 + below(6);
    uint32_t sizes[6];
    size_t total = 0;
    l2 = below(2) * 14;
    for (size_t i = 0; i < count; i++)
        total += sizes[i] = (uint32_t)(1 + below(200));
    uint8_t *packets = noise(total), *joined;
    if (below(2))
        packets[0] = 0x45;
    rejoin(packets, sizes, count, total, &joined);
    free(joined);
    free(packets);
}

int main(int argc, char **argv)
{
    const unsigned long rounds = begin(argc, argv);

    for (at = 0; at < rounds; at++) {
        round_trip();
        noise_round();
    }
    printf("%lu rounds\n", rounds);
    return 0;
}
