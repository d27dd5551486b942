/* One AEAD key for one direction, used for many datagrams: the key is set once, per datagram only the nonce.
 *
 * AES-256-GCM and ChaCha20-Poly1305 come from libcrypto (OpenSSL 3). Where the build found Intel's ipsec-mb and the
 * processor has the instructions, AES-256-GCM comes from there: its cost per call is a quarter (docs/benchmarks.md).
 */
#ifndef MLVPN_BURST_AEAD_H
#define MLVPN_BURST_AEAD_H

#include <stddef.h>
#include <stdint.h>

#define AEAD_KEY_BYTES 32
#define AEAD_NONCE_BYTES 12
#define AEAD_TAG_BYTES 16

enum aead_cipher { AEAD_AES_256_GCM = 1, AEAD_CHACHA20_POLY1305 = 2 };
enum aead_direction { AEAD_SEAL = 1, AEAD_OPEN = 0 };

struct aead;

/* What a datagram is sealed with or opened with; `text` is as long before as after. */
struct aead_call {
    const uint8_t *nonce;
    const uint8_t *aad;
    size_t aad_bytes;
    const uint8_t *text;
    size_t text_bytes;
};

/* Load what would otherwise be loaded at first use, which a chroot may forbid. 0: libcrypto lacks a cipher. */
int aead_load(void);

/* The names and versions of the libraries in use. */
const char *aead_libraries(void);

/* NULL: no memory, unknown cipher, or aead_load() has not succeeded. */
struct aead *aead_create(enum aead_cipher cipher, enum aead_direction direction, const uint8_t key[AEAD_KEY_BYTES]);
void aead_destroy(struct aead *aead);

/* Write the sealed text (`out` may be `call->text`) and the tag. 0: the library failed. */
int aead_seal(struct aead *aead, const struct aead_call *call, uint8_t *out, uint8_t tag[AEAD_TAG_BYTES]);

/* Write the opened text. 0: it is not authentic, and what `out` holds must not be looked at. */
int aead_open(struct aead *aead, const struct aead_call *call, const uint8_t tag[AEAD_TAG_BYTES], uint8_t *out);

#endif
