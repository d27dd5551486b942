/* Fuzz the burst kernels under sanitizers: fuzz_kernels SEED ROUNDS. Silence and 0, or a message and abort.
 *
 * Every buffer is allocated with exactly the size the kernels may touch, so that a byte too far is a report. Three
 * invariants: what was sealed opens to the same payload; whatever opens lies inside the buffer, and opened and failed
 * datagrams add up; noise never opens.
 */
#include "kernels.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { OVERHEAD = 32, SLICE_HEAD = 8, VNET = 10 };

struct ends {
    struct burst_session *sealer, *opener;
};

static struct ends ends_create(void)
{
    const int cipher = 1 + (int)below(2), cleartext = (int)below(2);
    uint8_t *key = noise(32);
    const struct ends ends = {burst_create_sealer(cipher, key, 7, cleartext),
                              burst_create_opener(cipher, key, 7, cleartext)};
    REQUIRE(ends.sealer != NULL && ends.opener != NULL);
    free(key);
    return ends;
}

static void ends_destroy(struct ends ends)
{
    burst_destroy(ends.sealer);
    burst_destroy(ends.opener);
}

/* Open into buffers of the least size allowed and check the books; return the datagrams opened. */
static size_t open_and_check(struct burst_session *opener, const uint8_t *data, size_t bytes, size_t size)
{
    uint8_t *train = malloc(bytes ? bytes : 1), *out = malloc(bytes ? bytes : 1);
    const size_t room = bytes / OVERHEAD + 1, step = size ? size : bytes;
    struct burst_opened *opened = calloc(room, sizeof *opened);
    size_t failed, joined = 0;
    ptrdiff_t runs;

    memcpy(train, data, bytes); /* an exact copy: `data` may be part of something larger */
    runs = burst_open_train(opener, train, bytes, size, out, bytes, opened, room, &failed);
    REQUIRE(runs >= 0 && (size_t)runs <= room);
    for (ptrdiff_t i = 0; i < runs; i++) {
        REQUIRE((size_t)opened[i].body_at + opened[i].body_bytes <= bytes);
        REQUIRE(opened[i].count >= 1 && opened[i].slice_bytes <= opened[i].body_bytes && opened[i].link < 256);
        joined += opened[i].count;
    }
    REQUIRE(joined + failed == (bytes ? (bytes + step - 1) / step : 0));
    free(train);
    free(out);
    free(opened);
    return joined;
}

static void flip_some(uint8_t *data, size_t bytes)
{
    for (size_t flips = below(4); flips > 0; flips--)
        data[below(bytes)] ^= (uint8_t)(1 << below(8));
}

/* Seal a cut with any arguments; open it whole, disturbed, and cut at other places. */
static void slices_round(struct ends ends)
{
    const size_t frame_bytes = below(3000), wanted = below(70);
    const struct burst_slices slices = {below(200), below(200), below(300), wanted, (uint32_t)random64(),
                                        (uint8_t)random64(), (uint8_t)below(60)};
    const size_t largest = wanted * (OVERHEAD + SLICE_HEAD + slices.header_bytes + slices.slice_bytes);
    const size_t room = below(4) ? largest : below(largest + 1);
    uint8_t *frame = noise(frame_bytes), *out = malloc(room ? room : 1);
    const ptrdiff_t written =
        burst_seal_slices(ends.sealer, 3, random64(), 9, &slices, frame, frame_bytes, out, room);

    REQUIRE(written <= (ptrdiff_t)room);
    if (written > 0) {
        const size_t size = OVERHEAD + SLICE_HEAD + slices.header_bytes + slices.slice_bytes;
        REQUIRE(open_and_check(ends.opener, out, (size_t)written, size) == wanted);
        open_and_check(ends.opener, out, (size_t)written, below(2 * size));
        open_and_check(ends.opener, out, below((size_t)written + 1), size);
        flip_some(out, (size_t)written);
        open_and_check(ends.opener, out, (size_t)written, size);
    }
    free(frame);
    free(out);
}

/* Seal bodies that are almost slices of one run, so that authentic nonsense reaches the joining. */
static void bodies_round(struct ends ends)
{
    const size_t count = below(12), size = below(150);
    uint8_t *bodies = noise(count * size), *out = malloc(count * (OVERHEAD + size) + 1);
    uint32_t *sizes = calloc(count ? count : 1, sizeof *sizes);
    ptrdiff_t written;

    for (size_t i = 0; i < count; i++) {
        uint8_t *body = bodies + i * size;
        sizes[i] = (uint32_t)size;
        if (size < SLICE_HEAD || below(8) == 0)
            continue;
        memset(body, 0, size);
        body[0] = (uint8_t)((2 + below(3)) << 5);
        body[4] = (uint8_t)i;
        body[6] = (uint8_t)(i * below(100));
        body[7] = (uint8_t)(below(4) ? 20 : random64());
    }
    written = burst_seal_bodies(ends.sealer, 3, 5, 9, bodies, sizes, count, out, count * (OVERHEAD + size));
    REQUIRE(written == (ptrdiff_t)(count * (OVERHEAD + size)));
    REQUIRE(open_and_check(ends.opener, out, (size_t)written, OVERHEAD + size) == count);
    if (count > 0)
        REQUIRE(burst_seal_bodies(ends.sealer, 3, 5, 9, bodies, sizes, count, out, (size_t)written - 1) == -1);
    free(bodies);
    free(out);
    free(sizes);
}

/* Noise, half of it behind the header of the session. */
static void noise_round(struct ends ends)
{
    static const uint8_t header[] = {4, 3, 0, 0, 0, 0, 0, 5, 0, 0, 0, 7};
    const size_t bytes = below(500);
    uint8_t *data = noise(bytes);

    if (bytes > sizeof header && below(2))
        memcpy(data, header, sizeof header);
    REQUIRE(open_and_check(ends.opener, data, bytes, below(200)) == 0);
    free(data);
}

/* A run comes back as one body: the template and the payload as they were. */
static void payload_round(struct ends ends)
{
    const size_t payload_bytes = 1 + below(40000), slice_bytes = 1 + below(1400);
    const size_t count = (payload_bytes + slice_bytes - 1) / slice_bytes;
    const struct burst_slices slices = {52, slice_bytes, 0, count, (uint32_t)random64(), 0x42, 20};
    const size_t frame_bytes = VNET + 52 + payload_bytes;
    const size_t bytes = count * (OVERHEAD + SLICE_HEAD + 52) + payload_bytes;
    uint8_t *frame = noise(frame_bytes), *train = malloc(bytes), *out = malloc(bytes);
    struct burst_opened *opened = calloc(bytes / OVERHEAD + 1, sizeof *opened);
    size_t failed;

    frame[VNET + 20 + 12] = 8 << 4;
    REQUIRE(burst_seal_slices(ends.sealer, 3, 5, 9, &slices, frame, frame_bytes, train, bytes) == (ptrdiff_t)bytes);
    REQUIRE(burst_open_train(ends.opener, train, bytes, OVERHEAD + SLICE_HEAD + 52 + slice_bytes, out, bytes, opened,
                             bytes / OVERHEAD + 1, &failed) == 1);
    REQUIRE(failed == 0 && opened->count == count && opened->body_bytes == SLICE_HEAD + 52 + payload_bytes);
    REQUIRE(memcmp(out + opened->body_at + SLICE_HEAD, frame + VNET, 52 + payload_bytes) == 0);
    free(frame);
    free(train);
    free(out);
    free(opened);
}

int main(int argc, char **argv)
{
    const unsigned long rounds = begin(argc, argv);

    if (!burst_load())
        return 2;
    for (at = 0; at < rounds; at++) {
        const struct ends ends = ends_create();
        slices_round(ends);
        bodies_round(ends);
        noise_round(ends);
        payload_round(ends);
        ends_destroy(ends);
    }
    printf("%lu rounds on %s\n", rounds, burst_libraries());
    return 0;
}
