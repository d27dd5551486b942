/* Splitting and joining of super-packets; see segments.h for the contract, wire/vnet.py and wire/rejoin.py for why. */
#include "segments.h"

#include <string.h>

enum {
    VNET_BYTES = 10,
    ETHERNET_BYTES = 14,
    IPV4_BYTES = 20,
    IPV6_BYTES = 40,
    TCP_BYTES = 20,
    UDP_BYTES = 8,
    MAX_IP_BYTES = 65535,
    DONT_FRAGMENT = 0x4000,
    PROTOCOL_TCP = 6,
    FIN = 0x01,
    PSH = 0x08,
    ACK = 0x10,
    CWR = 0x80,
    NEEDS_CSUM = 1,
    GSO_TCPV4 = 1,
    GSO_TCPV6 = 4,
    MAX_HEADER_BYTES = ETHERNET_BYTES + IPV6_BYTES + 60,
};

static uint32_t be16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t be32(const uint8_t *at)
{
    return be16(at) << 16 | be16(at + 2);
}

static void put_be16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put_be32(uint8_t *at, uint32_t value)
{
    put_be16(at, value >> 16);
    put_be16(at + 2, value);
}

/* Checksums are summed and stored in the machine's own byte order (RFC 1071, 2 B). */
static void put_sum(uint8_t *at, uint32_t value)
{
    const uint16_t word = (uint16_t)value;
    memcpy(at, &word, sizeof word);
}

static uint64_t sum_of(const uint8_t *data, size_t bytes)
{
    uint64_t low = 0, high = 0, word;
    uint8_t rest[8] = {0};

    for (; bytes >= 8; data += 8, bytes -= 8) {
        memcpy(&word, data, 8);
        low += word & 0xFFFFFFFF;
        high += word >> 32;
    }
    memcpy(rest, data, bytes);
    memcpy(&word, rest, 8);
    return low + high + (word & 0xFFFFFFFF) + (word >> 32);
}

static void finish_ipv4(uint8_t *header, size_t bytes)
{
    put_sum(header + 10, 0);
    put_sum(header + 10, (0xFFFF - (uint32_t)(sum_of(header, bytes) % 0xFFFF)) % 0xFFFF);
}

void segments_split(uint8_t *out, const uint8_t *packet, size_t packet_bytes, size_t header_bytes, size_t l3, size_t l4,
                    int is_tcp, size_t gso_bytes)
{
    const int is_ipv4 = packet[l3] >> 4 == 4;
    const size_t csum = l4 + (is_tcp ? 16 : 6);
    const uint32_t first_id = is_ipv4 ? be16(packet + l3 + 4) : 0, first_seq = is_tcp ? be32(packet + l4 + 4) : 0;
    const uint32_t seed = be16(packet + csum);

    for (size_t offset = 0, index = 0; header_bytes + offset < packet_bytes; offset += gso_bytes, index++) {
        const size_t left = packet_bytes - header_bytes - offset, payload = left < gso_bytes ? left : gso_bytes;
        const size_t bytes = header_bytes + payload;
        memcpy(out, packet, header_bytes);
        memcpy(out + header_bytes, packet + header_bytes + offset, payload);
        if (is_ipv4) {
            put_be16(out + l3 + 2, (uint32_t)(bytes - l3));
            put_be16(out + l3 + 4, first_id + (uint32_t)index);
            finish_ipv4(out + l3, l4 - l3);
        } else {
            put_be16(out + l3 + 4, (uint32_t)(bytes - l3 - IPV6_BYTES));
        }
        if (is_tcp) {
            put_be32(out + l4 + 4, first_seq + (uint32_t)offset);
            out[l4 + 13] &= (uint8_t)~((payload < left ? FIN | PSH : 0) | (offset ? CWR : 0));
        } else {
            put_be16(out + l4 + 4, (uint32_t)(bytes - l4));
        }
        put_be16(out + csum, (seed + 0xFFFF - (uint32_t)((packet_bytes - bytes) % 0xFFFF)) % 0xFFFF);
        put_sum(out + csum, 0xFFFF - (uint32_t)(sum_of(out + l4, bytes - l4) % 0xFFFF));
        out += bytes;
    }
}

/* What of a TCP packet decides whether it can follow another one. */
struct segment {
    size_t header_bytes, payload_bytes, l4;
    uint32_t seq, id;
    int is_ipv4, is_atomic, is_last;
    uint8_t same[MAX_HEADER_BYTES]; /* the headers without what differs between neighbours */
};

static uint64_t pseudo_sum(const uint8_t *packet, size_t l3, int is_ipv4, size_t l4_bytes)
{
    uint8_t rest[4] = {0, PROTOCOL_TCP};

    put_be16(rest + 2, (uint32_t)l4_bytes);
    return sum_of(rest, 4) + (is_ipv4 ? sum_of(packet + l3 + 12, 8) : sum_of(packet + l3 + 8, 32));
}

static size_t find_tcp(const uint8_t *packet, size_t bytes, size_t l3)
{
    const uint8_t *ip = packet + l3;

    if (bytes >= l3 + IPV4_BYTES + TCP_BYTES && ip[0] == 0x45 && (l3 == 0 || be16(ip - 2) == 0x0800)) {
        const int is_whole = be16(ip + 2) == bytes - l3 && (be16(ip + 6) | DONT_FRAGMENT) == DONT_FRAGMENT;
        return is_whole && ip[9] == PROTOCOL_TCP && sum_of(ip, IPV4_BYTES) % 0xFFFF == 0 ? l3 + IPV4_BYTES : 0;
    }
    if (bytes >= l3 + IPV6_BYTES + TCP_BYTES && ip[0] >> 4 == 6 && (l3 == 0 || be16(ip - 2) == 0x86DD))
        return be16(ip + 4) == bytes - l3 - IPV6_BYTES && ip[6] == PROTOCOL_TCP ? l3 + IPV6_BYTES : 0;
    return 0;
}

/* Reads a packet; returns 0 when it is none that could be joined. */
static int read_segment(struct segment *s, const uint8_t *packet, size_t bytes, size_t l3)
{
    const size_t l4 = s->l4 = find_tcp(packet, bytes, l3);

    if (l4 == 0 || (packet[l4 + 13] & ~PSH) != ACK)
        return 0;
    s->header_bytes = l4 + (packet[l4 + 12] >> 4) * 4u;
    if (s->header_bytes < l4 + TCP_BYTES || s->header_bytes >= bytes)
        return 0;
    s->is_ipv4 = packet[l3] >> 4 == 4;
    if ((pseudo_sum(packet, l3, s->is_ipv4, bytes - l4) + sum_of(packet + l4, bytes - l4)) % 0xFFFF != 0)
        return 0;
    s->payload_bytes = bytes - s->header_bytes;
    s->seq = be32(packet + l4 + 4);
    s->id = s->is_ipv4 ? be16(packet + l3 + 4) : 0;
    s->is_atomic = !s->is_ipv4 || be16(packet + l3 + 6) == DONT_FRAGMENT;
    s->is_last = packet[l4 + 13] & PSH;
    memcpy(s->same, packet, s->header_bytes);
    if (s->is_ipv4) {
        memset(s->same + l3 + 2, 0, 4);
        memset(s->same + l3 + 10, 0, 2);
    } else {
        memset(s->same + l3 + 4, 0, 2);
    }
    memset(s->same + l4 + 4, 0, 4);
    s->same[l4 + 13] &= (uint8_t)~PSH;
    memset(s->same + l4 + 16, 0, 2);
    return 1;
}

/* A super-packet in the making: the frame at `out` holds `packets` packets, the last of which was `last`. */
struct joined {
    struct segment first, last;
    size_t packets, bytes;
};

static int continues(const struct joined *joined, const struct segment *next, size_t l3)
{
    const struct segment *first = &joined->first, *last = &joined->last;

    return joined->packets > 0 && !last->is_last && last->payload_bytes == first->payload_bytes &&
           next->payload_bytes <= first->payload_bytes && next->header_bytes == first->header_bytes &&
           next->seq == last->seq + (uint32_t)last->payload_bytes &&
           (next->is_atomic || next->id == ((last->id + 1) & 0xFFFF)) &&
           joined->bytes - l3 + next->payload_bytes <= MAX_IP_BYTES &&
           memcmp(first->same, next->same, next->header_bytes) == 0;
}

static void put_vnet(uint8_t *frame, const struct segment *first)
{
    const uint16_t lengths[] = {(uint16_t)first->header_bytes, (uint16_t)first->payload_bytes, (uint16_t)first->l4, 16};

    frame[0] = NEEDS_CSUM;
    frame[1] = first->is_ipv4 ? GSO_TCPV4 : GSO_TCPV6;
    memcpy(frame + 2, lengths, sizeof lengths);
}

/* Gives the frame of several packets the headers of a super-packet. */
static void close_joined(uint8_t *frame, const struct joined *joined, size_t l3)
{
    const struct segment *first = &joined->first;
    uint8_t *packet = frame + VNET_BYTES;

    if (joined->packets < 2)
        return;
    put_vnet(frame, first);
    packet[first->l4 + 13] |= joined->last.is_last ? PSH : 0;
    if (first->is_ipv4) {
        put_be16(packet + l3 + 2, (uint32_t)(joined->bytes - l3));
        finish_ipv4(packet + l3, IPV4_BYTES);
    } else {
        put_be16(packet + l3 + 4, (uint32_t)(joined->bytes - l3 - IPV6_BYTES));
    }
    put_sum(packet + first->l4 + 16,
            (uint32_t)(pseudo_sum(packet, l3, first->is_ipv4, joined->bytes - first->l4) % 0xFFFF));
}

size_t segments_rejoin(uint8_t *out, uint32_t *frame_bytes, const uint8_t *packets, const uint32_t *packet_bytes,
                       size_t count, size_t l2_bytes)
{
    struct joined joined = {.packets = 0};
    struct segment next;
    size_t frames = 0;

    for (size_t i = 0; i < count; packets += packet_bytes[i++]) {
        const size_t bytes = packet_bytes[i];
        const int can_join = read_segment(&next, packets, bytes, l2_bytes);
        if (can_join && continues(&joined, &next, l2_bytes)) {
            memcpy(out + VNET_BYTES + joined.bytes, packets + next.header_bytes, next.payload_bytes);
            joined.bytes += next.payload_bytes;
            joined.packets++;
            joined.last = next;
        } else {
            if (frames > 0) {
                close_joined(out, &joined, l2_bytes);
                out += frame_bytes[frames - 1] = (uint32_t)(VNET_BYTES + joined.bytes);
            }
            memset(out, 0, VNET_BYTES);
            memcpy(out + VNET_BYTES, packets, bytes);
            joined.packets = can_join ? 1 : 0;
            joined.bytes = bytes;
            if (can_join)
                joined.first = joined.last = next;
            frames++;
        }
    }
    if (frames > 0) {
        close_joined(out, &joined, l2_bytes);
        frame_bytes[frames - 1] = (uint32_t)(VNET_BYTES + joined.bytes);
    }
    return frames;
}
