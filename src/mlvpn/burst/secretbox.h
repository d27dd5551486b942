/* MLVPN 1's trains, sealed and opened in one call each. The format is that of wire/mlvpn1.py.
 *
 * Every function only touches what it is given; lengths are checked by the caller in secretbox.py.
 * The lines before the first declaration that is no preprocessor line are not seen by cffi.
 */
#include <stddef.h>
#include <stdint.h>

/* Seals `count` packets, laid end to end, `packet_bytes` each but for the last, of which `last_bytes` are left.
 * `data_seqs` are their numbers over all links; seq counts up from `seq`. Only the first one answers a timestamp.
 * `out` takes 44 bytes more for each. Returns 0, or -1 when libsodium refuses. */
int secretbox_seal_train(uint8_t *out, const uint8_t *packets, size_t count, size_t packet_bytes, size_t last_bytes,
                         const uint8_t *key, uint32_t flow_id, uint64_t seq, const uint64_t *data_seqs,
                         uint16_t timestamp, uint16_t timestamp_reply);

/* Opens the datagrams of a train of `datagram_bytes` each, the last maybe shorter. Body i begins at
 * out[i * datagram_bytes]; opened[i] is 1 where it is authentic and its length field true, else 0. */
void secretbox_open_train(uint8_t *out, uint8_t *opened, const uint8_t *train, size_t train_bytes,
                          size_t datagram_bytes, const uint8_t *key);
