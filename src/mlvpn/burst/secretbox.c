/* MLVPN 1's trains on libsodium; see secretbox.h for the contract and wire/mlvpn1.py for the format. */
#include "secretbox.h"

#include <sodium.h>
#include <string.h>

enum {
    HEADER_BYTES = 28,
    MAC_BYTES = crypto_secretbox_MACBYTES,
    FLAGS_DATA = 0x31,    /* version 1, type 3 */
    FLAGS_REORDER = 0x04, /* second byte of the bit field */
    NO_TIMESTAMP = 65535,
};

static void put_be16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put_be64(uint8_t *at, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        at[i] = (uint8_t)value;
}

/* The nonce is LE64(seq) | LE32(flow_id) | zeros: the header's two fields, each the other way round. */
static void nonce_of_header(uint8_t nonce[crypto_secretbox_NONCEBYTES], const uint8_t *header)
{
    memset(nonce, 0, crypto_secretbox_NONCEBYTES);
    for (int i = 0; i < 8; i++)
        nonce[i] = header[19 - i];
    for (int i = 0; i < 4; i++)
        nonce[8 + i] = header[11 - i];
}

int secretbox_seal_train(uint8_t *out, const uint8_t *packets, size_t count, size_t packet_bytes, size_t last_bytes,
                         const uint8_t *key, uint32_t flow_id, uint64_t seq, const uint64_t *data_seqs,
                         uint16_t timestamp, uint16_t timestamp_reply)
{
    uint8_t nonce[crypto_secretbox_NONCEBYTES];

    for (size_t i = 0; i < count; i++) {
        size_t bytes = i + 1 < count ? packet_bytes : last_bytes;
        put_be16(out, (uint16_t)(bytes + MAC_BYTES));
        out[2] = FLAGS_DATA;
        out[3] = FLAGS_REORDER;
        put_be16(out + 4, timestamp);
        put_be16(out + 6, i == 0 ? timestamp_reply : NO_TIMESTAMP);
        put_be16(out + 8, (uint16_t)(flow_id >> 16));
        put_be16(out + 10, (uint16_t)flow_id);
        put_be64(out + 12, seq + i);
        put_be64(out + 20, data_seqs[i]);
        nonce_of_header(nonce, out);
        if (crypto_secretbox_easy(out + HEADER_BYTES, packets, bytes, nonce, key) != 0)
            return -1;
        packets += bytes;
        out += HEADER_BYTES + MAC_BYTES + bytes;
    }
    return 0;
}

void secretbox_open_train(uint8_t *out, uint8_t *opened, const uint8_t *train, size_t train_bytes,
                          size_t datagram_bytes, const uint8_t *key)
{
    uint8_t nonce[crypto_secretbox_NONCEBYTES];

    for (; train_bytes > 0; opened++, out += datagram_bytes) {
        size_t bytes = train_bytes < datagram_bytes ? train_bytes : datagram_bytes;
        *opened = 0;
        if (bytes >= HEADER_BYTES + MAC_BYTES && ((size_t)train[0] << 8 | train[1]) == bytes - HEADER_BYTES) {
            nonce_of_header(nonce, train);
            *opened = crypto_secretbox_open_easy(out, train + HEADER_BYTES, bytes - HEADER_BYTES, nonce, key) == 0;
        }
        train += bytes;
        train_bytes -= bytes;
    }
}
