/* Fuzz the joining of received datagrams under sanitizers: fuzz_receive SEED ROUNDS.
 *
 * Invariants: no byte is added, lost or moved behind another; a train never outgrows its place.
 */
#include "receive.h"

#include <string.h>

#include "fuzz.h"

enum { PLACE = 65536, MESSAGES = 12 };

int main(int argc, char **argv)
{
    const unsigned long rounds = begin(argc, argv);
    uint8_t *arena = malloc((size_t)MESSAGES * PLACE), *before = malloc((size_t)MESSAGES * PLACE);
    struct received_train *trains = calloc(MESSAGES, sizeof *trains);

    for (at = 0; at < rounds; at++) {
        const size_t count = 1 + below(MESSAGES), size = 1 + below(30000);
        size_t total = 0, joined = 0;
        memset(trains, 0, MESSAGES * sizeof *trains);
        for (size_t i = 0; i < count; i++) {
            struct received_train *train = &trains[i];
            train->start = (uint32_t)(i * PLACE);
            train->bytes = below(9) ? (uint32_t)(below(3) ? size : 1 + below(PLACE - 1)) : 0;
            train->datagram_bytes = below(3) || train->bytes < size ? train->bytes : (uint32_t)size;
            train->arrival_ns = (int64_t)below(3) * 400000;
            train->source[0] = (uint8_t)below(2);
            memset(arena + train->start, (int)(i + 1), train->bytes);
            if (train->bytes)
                arena[train->start] = (uint8_t)below(2);
            memcpy(before + total, arena + train->start, train->bytes);
            total += train->bytes;
        }
        const size_t left = receive_join(arena, trains, count);
        REQUIRE(left <= count);
        for (size_t i = 0; i < left; i++) {
            REQUIRE(trains[i].bytes > 0 && trains[i].bytes < PLACE && trains[i].start % PLACE == 0);
            REQUIRE(memcmp(arena + trains[i].start, before + joined, trains[i].bytes) == 0);
            joined += trains[i].bytes;
        }
        REQUIRE(joined == total);
    }
    free(trains);
    free(before);
    free(arena);
    printf("%lu rounds\n", rounds);
    return 0;
}
