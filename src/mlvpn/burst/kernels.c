/* See kernels.h. In the order in which a packet meets them: cut and seal, authenticate and join. */
#include "kernels.h"

#include "aead.h"

#include <stdlib.h>
#include <string.h>

enum {
    DATA = 4,
    DATA_CLEAR = 5,
    HEADER_BYTES = 16,
    OVERHEAD_BYTES = HEADER_BYTES + AEAD_TAG_BYTES,
    VNET_HEADER_BYTES = 10,
    SLICE_HEAD_BYTES = 8,
    TCP_HEADER_BYTES = 20,
    TCP_DATA_OFFSET_AT = 12, /* upper four bits: length in 32-bit words (RFC 9293, section 3.1) */
    UDP_HEADER_BYTES = 8,
    PREFIX_LIMIT = SLICE_HEAD_BYTES + 255 + 60 /* slice head and the longest template it can announce */
};
enum kind { SLICE_TCP4 = 2, SLICE_TCP6 = 3, SLICE_UDP = 4 };

static const size_t offset_limit = 1 << 16;
static const uint64_t lseq_mask = (UINT64_C(1) << 48) - 1;

_Static_assert(sizeof(struct burst_opened) == 32, "c.py unpacks it as =Q6I");

struct burst_session {
    struct aead *aead;
    uint32_t index;
    int cleartext;
};

static void put_u16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put_u32(uint8_t *at, uint32_t value)
{
    put_u16(at, value >> 16);
    put_u16(at + 2, value & 0xFFFF);
}

static void put_u64(uint8_t *at, uint64_t value)
{
    put_u32(at, (uint32_t)(value >> 32));
    put_u32(at + 4, (uint32_t)value);
}

static uint32_t take_u16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t take_u32(const uint8_t *at)
{
    return take_u16(at) << 16 | take_u16(at + 2);
}

static uint64_t take_u64(const uint8_t *at)
{
    return (uint64_t)take_u32(at) << 32 | take_u32(at + 4);
}

int burst_load(void)
{
    return aead_load();
}

const char *burst_libraries(void)
{
    return aead_libraries();
}

static struct burst_session *create(int cipher, enum aead_direction direction, const uint8_t *key, uint32_t index,
                                    int cleartext)
{
    struct burst_session *session = calloc(1, sizeof *session);

    if (session == NULL)
        return NULL;
    session->aead = aead_create((enum aead_cipher)cipher, direction, key);
    session->index = index;
    session->cleartext = cleartext;
    if (session->aead == NULL) {
        free(session);
        return NULL;
    }
    return session;
}

struct burst_session *burst_create_sealer(int cipher, const uint8_t *key, uint32_t index, int cleartext)
{
    return create(cipher, AEAD_SEAL, key, index, cleartext);
}

struct burst_session *burst_create_opener(int cipher, const uint8_t *key, uint32_t index, int cleartext)
{
    return create(cipher, AEAD_OPEN, key, index, cleartext);
}

void burst_destroy(struct burst_session *session)
{
    if (session == NULL)
        return;
    aead_destroy(session->aead);
    free(session);
}

/* Turn `datagram`, whose body is in its place, into a sealed one: write header and tag. */
static int seal(struct burst_session *session, uint64_t link_and_lseq, uint32_t ts_us, uint8_t *datagram,
                size_t body_bytes)
{
    const uint64_t type = session->cleartext ? DATA_CLEAR : DATA;
    const size_t clear_bytes = session->cleartext ? body_bytes : 0;
    uint8_t *text = datagram + HEADER_BYTES + clear_bytes;
    const struct aead_call call = {datagram, datagram, HEADER_BYTES + clear_bytes, text, body_bytes - clear_bytes};

    put_u64(datagram, type << 56 | link_and_lseq);
    put_u32(datagram + 8, session->index);
    put_u32(datagram + 12, ts_us);
    return aead_seal(session->aead, &call, text, datagram + HEADER_BYTES + body_bytes);
}

static uint64_t join_link(uint8_t link, uint64_t lseq)
{
    return (uint64_t)link << 48 | (lseq & lseq_mask);
}

/* Every slice must have at least one byte of payload and an offset that fits its field. */
static int slices_are_possible(const struct burst_slices *slices, size_t frame_bytes)
{
    size_t payload_bytes;

    if (frame_bytes <= VNET_HEADER_BYTES || slices->header_bytes < 1 ||
        slices->header_bytes >= frame_bytes - VNET_HEADER_BYTES)
        return 0;
    payload_bytes = frame_bytes - VNET_HEADER_BYTES - slices->header_bytes;
    if (payload_bytes > offset_limit)
        payload_bytes = offset_limit;
    return slices->slice_bytes >= 1 && slices->count >= 1 && slices->offset < payload_bytes &&
           slices->count - 1 <= (payload_bytes - 1 - slices->offset) / slices->slice_bytes;
}

/* Write the body of a slice with `payload_bytes` at `offset`. */
static void put_slice(const struct burst_slices *slices, uint32_t gseq, const uint8_t *frame, size_t offset,
                      size_t payload_bytes, uint8_t *body)
{
    const uint8_t *template = frame + VNET_HEADER_BYTES;

    body[0] = slices->first_byte;
    put_u32(body + 1, gseq);
    put_u16(body + 5, (uint32_t)offset);
    body[7] = slices->csum_start;
    memcpy(body + SLICE_HEAD_BYTES, template, slices->header_bytes);
    memcpy(body + SLICE_HEAD_BYTES + slices->header_bytes, template + slices->header_bytes + offset, payload_bytes);
}

ptrdiff_t burst_seal_slices(struct burst_session *session, uint8_t link, uint64_t lseq, uint32_t ts_us,
                            const struct burst_slices *slices, const uint8_t *frame, size_t frame_bytes, uint8_t *out,
                            size_t out_bytes)
{
    const size_t prefix_bytes = SLICE_HEAD_BYTES + slices->header_bytes;
    size_t offset = slices->offset;
    uint8_t *end = out;

    if (!slices_are_possible(slices, frame_bytes))
        return -1;
    for (size_t number = 0; number < slices->count; number++) { /* HOT PATH */
        const size_t left = frame_bytes - VNET_HEADER_BYTES - slices->header_bytes - offset;
        const size_t payload_bytes = left < slices->slice_bytes ? left : slices->slice_bytes;
        if (OVERHEAD_BYTES + prefix_bytes + payload_bytes > out_bytes - (size_t)(end - out))
            return -1;
        put_slice(slices, slices->gseq + (uint32_t)number, frame, offset, payload_bytes, end + HEADER_BYTES);
        if (!seal(session, join_link(link, lseq + number), ts_us, end, prefix_bytes + payload_bytes))
            return -1;
        offset += payload_bytes;
        end += OVERHEAD_BYTES + prefix_bytes + payload_bytes;
    }
    return end - out;
}

ptrdiff_t burst_seal_bodies(struct burst_session *session, uint8_t link, uint64_t lseq, uint32_t ts_us,
                            const uint8_t *bodies, const uint32_t *body_bytes, size_t count, uint8_t *out,
                            size_t out_bytes)
{
    uint8_t *end = out;

    for (size_t number = 0; number < count; number++) { /* HOT PATH */
        const size_t bytes = body_bytes[number];
        if (OVERHEAD_BYTES + bytes > out_bytes - (size_t)(end - out))
            return -1;
        memcpy(end + HEADER_BYTES, bodies, bytes);
        if (!seal(session, join_link(link, lseq + number), ts_us, end, bytes))
            return -1;
        bodies += bytes;
        end += OVERHEAD_BYTES + bytes;
    }
    return end - out;
}

/* Authenticate a datagram and write its body; 0: `body` must not be looked at. */
static int open_body(struct burst_session *session, const uint8_t *datagram, size_t body_bytes, uint8_t *body)
{
    const int clear = datagram[0] == DATA_CLEAR;
    const size_t clear_bytes = clear ? body_bytes : 0;
    const uint8_t *text = datagram + HEADER_BYTES;
    const struct aead_call call = {datagram, datagram, HEADER_BYTES + clear_bytes, text, body_bytes - clear_bytes};

    if (!aead_open(session->aead, &call, text + body_bytes, body))
        return 0;
    if (clear)
        memcpy(body, text, body_bytes);
    return 1;
}

static int is_for_us(const struct burst_session *session, const uint8_t *datagram, size_t datagram_bytes)
{
    if (datagram_bytes < OVERHEAD_BYTES || take_u32(datagram + 8) != session->index)
        return 0;
    return datagram[0] == DATA || (datagram[0] == DATA_CLEAR && session->cleartext);
}

/* Where the payload of a slice begins; 0: the body is no slice, or has a broken or no payload. */
static size_t slice_payload_at(const uint8_t *body, size_t body_bytes)
{
    size_t payload_at;
    enum kind kind;

    if (body_bytes <= SLICE_HEAD_BYTES)
        return 0;
    kind = (enum kind)(body[0] >> 5);
    payload_at = SLICE_HEAD_BYTES + (size_t)body[SLICE_HEAD_BYTES - 1];
    if (kind == SLICE_UDP) {
        payload_at += UDP_HEADER_BYTES;
    } else if ((kind == SLICE_TCP4 || kind == SLICE_TCP6) && payload_at + TCP_HEADER_BYTES < body_bytes) {
        const size_t announced = (size_t)(body[payload_at + TCP_DATA_OFFSET_AT] >> 4) * 4;
        payload_at += announced < TCP_HEADER_BYTES ? TCP_HEADER_BYTES : announced;
    } else {
        return 0;
    }
    return payload_at < body_bytes ? payload_at : 0;
}

/* A train being opened: where the next body goes, and what the next slice of the open run must look like. */
struct train {
    struct burst_session *session;
    uint8_t *end;                 /* of the bodies so far */
    struct burst_opened *run;     /* NULL: nothing to join to */
    uint64_t next_word;           /* type, link and lseq that continue it */
    uint8_t prefix[PREFIX_LIMIT]; /* slice head and template of its first slice */
    size_t prefix_bytes;
};

/* Whether the clear header can be that of the run's next slice. */
static int may_continue(const struct train *train, uint64_t word)
{
    return train->run != NULL && word == train->next_word && (word & lseq_mask) != 0;
}

static int continues(const struct train *train, const uint8_t *body, size_t body_bytes)
{
    const struct burst_opened *run = train->run;
    const uint8_t *first = train->prefix;
    const size_t offset = take_u16(first + 5) + (size_t)run->count * run->slice_bytes;

    return body_bytes > train->prefix_bytes && body_bytes - train->prefix_bytes <= run->slice_bytes &&
           body[0] == first[0] && take_u32(body + 1) == take_u32(first + 1) + run->count &&
           take_u16(body + 5) == offset && memcmp(body + 7, first + 7, train->prefix_bytes - 7) == 0;
}

static void append(struct train *train, size_t payload_bytes)
{
    train->run->count++;
    train->run->body_bytes += (uint32_t)payload_bytes;
    train->end += payload_bytes;
    train->next_word++;
    if (payload_bytes < train->run->slice_bytes)
        train->run = NULL;
}

/* Open a datagram that may continue the run so that its payload comes to lie where it belongs, at the end; the bytes
 * that its prefix covers meanwhile are put back. 1: it was joined; 0: its body is at the end, as a new one; -1: it is
 * not authentic. */
static int open_behind_run(struct train *train, const uint8_t *datagram, size_t body_bytes)
{
    const size_t prefix_bytes = train->prefix_bytes;
    uint8_t *body = train->end - prefix_bytes;
    uint8_t covered[PREFIX_LIMIT];
    int verdict = -1;

    memcpy(covered, body, prefix_bytes);
    if (open_body(train->session, datagram, body_bytes, body))
        verdict = continues(train, body, body_bytes);
    if (verdict == 0)
        memmove(train->end, body, body_bytes);
    memcpy(body, covered, prefix_bytes);
    if (verdict == 1)
        append(train, body_bytes - prefix_bytes);
    return verdict;
}

/* Begin an entry with the body that lies at the end. */
static void start(struct train *train, struct burst_opened *opened, const uint8_t *datagram, size_t body_bytes)
{
    const uint64_t word = take_u64(datagram);
    const size_t payload_at = slice_payload_at(train->end, body_bytes);

    opened->lseq = word & lseq_mask;
    opened->link = word >> 48 & 0xFF;
    opened->count = 1;
    opened->ts_us = take_u32(datagram + 12);
    opened->body_bytes = (uint32_t)body_bytes;
    opened->slice_bytes = payload_at == 0 ? 0 : (uint32_t)(body_bytes - payload_at);
    train->run = payload_at == 0 ? NULL : opened;
    train->prefix_bytes = payload_at;
    memcpy(train->prefix, train->end, payload_at);
    train->next_word = word + 1;
    train->end += body_bytes;
}

/* Open one datagram. 1: it was joined to the run; 0: `opened` was filled; -1: it is not authentic. */
static int open_datagram(struct train *train, const uint8_t *datagram, size_t bytes, struct burst_opened *opened)
{
    const size_t body_bytes = bytes - OVERHEAD_BYTES;
    int verdict;

    if (!is_for_us(train->session, datagram, bytes))
        return -1;
    if (may_continue(train, take_u64(datagram)))
        verdict = open_behind_run(train, datagram, body_bytes);
    else
        verdict = open_body(train->session, datagram, body_bytes, train->end) ? 0 : -1;
    if (verdict == 0)
        start(train, opened, datagram, body_bytes);
    return verdict;
}

ptrdiff_t burst_open_train(struct burst_session *session, const uint8_t *data, size_t data_bytes,
                           size_t datagram_bytes, uint8_t *out, size_t out_bytes, struct burst_opened *opened,
                           size_t opened_room, size_t *failed)
{
    struct train train;
    ptrdiff_t count = 0;
    size_t bytes;

    train.session = session;
    train.end = out;
    train.run = NULL;
    *failed = 0;
    if (data_bytes > UINT32_MAX || out_bytes < data_bytes || opened_room < data_bytes / OVERHEAD_BYTES + 1)
        return -1;
    for (size_t at = 0; at < data_bytes; at += bytes) { /* HOT PATH */
        const size_t left = data_bytes - at;
        int verdict;
        bytes = datagram_bytes == 0 || datagram_bytes > left ? left : datagram_bytes;
        opened[count].body_at = (uint32_t)(train.end - out);
        verdict = open_datagram(&train, data + at, bytes, &opened[count]);
        count += verdict == 0;
        *failed += verdict < 0;
    }
    return count;
}
