/* The burst kernels in C: what Python calls through cffi (build.py reads the declarations below as they stand).
 *
 * Contract and formats: api.py, wire/header.py and wire/frame.py; python.py is the specification, one test suite runs
 * both. Plain C with libcrypto: no Python, no allocation per call, no state but the key. A session is for one thread.
 */
#ifndef MLVPN_BURST_KERNELS_H
#define MLVPN_BURST_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* A key of one session and direction, the receiver's session index, and whether type 5 is sent or accepted. */
struct burst_session;

/* One datagram, or `count` joined slices. No padding: Python reads an array of it with one struct.iter_unpack. */
struct burst_opened {
    uint64_t lseq;
    uint32_t link;
    uint32_t count;
    uint32_t ts_us;
    uint32_t body_at;
    uint32_t body_bytes;
    uint32_t slice_bytes;
};

/* Which slices to cut off a frame: see Sealer.seal_slices in api.py. */
struct burst_slices {
    size_t header_bytes;
    size_t slice_bytes;
    size_t offset;
    size_t count;
    uint32_t gseq;
    uint8_t first_byte;
    uint8_t csum_start;
};

/* Call once before anything else, and before a chroot. 0: libcrypto lacks a cipher. */
int burst_load(void);
const char *burst_libraries(void);

/* `cipher`: 1 AES-256-GCM, 2 ChaCha20-Poly1305. NULL: no memory, or unknown cipher. `key` has 32 bytes. */
struct burst_session *burst_create_sealer(int cipher, const uint8_t *key, uint32_t index, int cleartext);
struct burst_session *burst_create_opener(int cipher, const uint8_t *key, uint32_t index, int cleartext);
void burst_destroy(struct burst_session *session);

/* Write the datagrams back to back into `out`; return their bytes, or -1: no slices of this frame, no room, or the
 * library failed. */
ptrdiff_t burst_seal_slices(struct burst_session *session, uint8_t link, uint64_t lseq, uint32_t ts_us,
                            const struct burst_slices *slices, const uint8_t *frame, size_t frame_bytes, uint8_t *out,
                            size_t out_bytes);

/* The same for `count` bodies that lie back to back in `bodies`; `body_bytes` holds the size of each. */
ptrdiff_t burst_seal_bodies(struct burst_session *session, uint8_t link, uint64_t lseq, uint32_t ts_us,
                            const uint8_t *bodies, const uint32_t *body_bytes, size_t count, uint8_t *out,
                            size_t out_bytes);

/* Open datagrams of `datagram_bytes` each (0: `data` is one). Return how many entries of `opened` were filled; their
 * bodies are in `out`, which must have at least `data_bytes`; `*failed` is the number of datagrams not authentic.
 * -1: too little room (`opened` wants an entry per 32 bytes of data and one more), or more than 4 GiB of data. */
ptrdiff_t burst_open_train(struct burst_session *session, const uint8_t *data, size_t data_bytes,
                           size_t datagram_bytes, uint8_t *out, size_t out_bytes, struct burst_opened *opened,
                           size_t opened_room, size_t *failed);

#endif
